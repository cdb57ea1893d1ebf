"""The replay of whole searches: its samples, its constants, and what it says of a search."""

from __future__ import annotations

import json

import numpy as np
import pytest

from primer_search.benchmarks import replay_searches
from primer_search.benchmarks.replay_searches import Search, changed, replay, resampled
from primer_search.search.guided import guided_search
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


def test_a_replay_repeats_and_judges_by_true_gains() -> None:
    found = replay(Search("guided search"), 120.0, 3)
    assert found == replay(Search("guided search"), 120.0, 3) != replay(Search("guided search"), 120.0, 4)
    assert found.edits > 5 and 0 <= found.paying_edits <= found.edits
    assert found.smaller_gain == min(found.gain, found.time_gain)


def test_both_searches_are_compared_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--budget", "2m", "--replays", "2", "--jobs", "1", "--vary", "MAX_TRAININGS=1", "--json"]
    replay_searches.main(arguments)
    paper, guided, varied = json.loads(capsys.readouterr().out)["rows"]
    assert (paper["factor"], paper["better"], guided["more"], guided["more_error"]) == (1.0, 0.0, 0.0, 0.0)
    assert guided["trained"] > 0 and varied["search"] == "guided, MAX_TRAININGS=1"
    assert min(guided["steps_gain"], guided["time_gain"]) >= guided["gain"]


@pytest.mark.parametrize("change", ["NO_SUCH_CONSTANT=1", "MAX_TRAININGS=many"])
def test_a_constant_that_cannot_be_changed_is_named(change: str) -> None:
    with pytest.raises(SystemExit, match=change):
        replay_searches.main(["--vary", change])
