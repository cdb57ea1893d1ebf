"""The replay of whole searches: its samples, its constants, and what it says of a search."""

from __future__ import annotations

import json

import numpy as np
import pytest

from primer_search.benchmarks import replay_searches
from primer_search.benchmarks.replay_searches import Search, changed, replay, resampled, row_of
from primer_search.search.guided import guided_search
from primer_search.search.simulation.found_program import FoundProgram
from primer_search.search.simulation.recorded_trainings import load_recording


def test_a_bootstrap_sample_holds_children_of_the_tape_and_all_curves() -> None:
    recording = load_recording()
    sample = resampled(recording, np.random.default_rng(0))
    assert len(sample.children) == len(recording.children) and sample.curves == recording.curves
    assert {id(each) for each in sample.children} < {id(each) for each in recording.children}


def test_constants_change_in_the_block_alone() -> None:
    before = guided_search.MAX_TRAININGS
    with changed({"MAX_TRAININGS": 1}):
        assert guided_search.MAX_TRAININGS == 1
    assert before == guided_search.MAX_TRAININGS > 1


def test_a_replay_repeats() -> None:
    found = replay(Search("guided search"), 120.0, 3)
    assert found == replay(Search("guided search"), 120.0, 3) != replay(Search("guided search"), 120.0, 4)
    assert found.edits > 5 and found.best_gain >= found.smaller_gain


def test_the_table_has_a_row_for_each_search(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--budget", "2m", "--replays", "2", "--jobs", "1", "--vary", "MAX_TRAININGS=1", "--json"]
    replay_searches.main(arguments)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["search"] for row in rows] == ["the paper's algorithm", "guided search", "guided, MAX_TRAININGS=1"]
    assert all(row["trained"] > 0 for row in rows)


def found(gain: float, time_gain: float, paying: int) -> FoundProgram:
    return FoundProgram(1, gain, time_gain, 0.5, paying_edits=paying // 2, paying_in_time=paying, edits=10)


def test_a_row_compares_replay_by_replay() -> None:
    first = [found(-0.1, 0.3, 2), found(0.2, 0.1, 2)]
    second = [found(0.2, 0.2, 8), found(0.3, 0.3, 8)]
    row = row_of("10m", 0.5, "second", second, [first, second])
    assert (row.trained, row.paying_an_hour, row.paying_in_time, row.factor) == (10.0, 8.0, 16.0, 4.0)
    assert (row.gain, row.best, row.steps_gain, row.time_gain) == pytest.approx((0.25, 0.5, 0.25, 0.25))
    assert row.error == pytest.approx(0.05)
    assert (row.better, row.better_in_time, row.more) == (1.0, 0.5, 0.0)
    assert row_of("10m", 0.5, "first", first, [first, second]).more == pytest.approx(-0.25)


def test_a_factor_over_nothing_is_infinite() -> None:
    nothing, something = [found(0.1, 0.1, 0)] * 2, [found(0.1, 0.1, 4)] * 2
    row = row_of("10m", 1.0, "second", something, [nothing, something])
    assert row.factor == row.high == float("inf")


@pytest.mark.parametrize("change", ["NO_SUCH_CONSTANT=1", "MAX_TRAININGS=many"])
def test_a_constant_that_cannot_be_changed_is_named(change: str) -> None:
    with pytest.raises(SystemExit, match=change):
        replay_searches.main(["--vary", change])
