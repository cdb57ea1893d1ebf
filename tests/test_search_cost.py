"""The cost of naming the ten best: known cases have known factors, and no rule costs more than it saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from primer_search.benchmarks import search_cost
from primer_search.benchmarks.record_tape import POINTS, SHARES, Entry
from primer_search.benchmarks.replay_data import Children, children_of, read_entries
from primer_search.benchmarks.replay_hurdles import Rule
from primer_search.benchmarks.replay_naming import (
    NAMED,
    Trainings,
    draw_trainings,
    name_naively,
    name_with_repeats,
    reached_shares,
)
from primer_search.benchmarks.replay_proposals import MOST_DRAWS, count_proposals
from primer_search.benchmarks.search_cost import RULE, Charges, Comparison

COUNT = 60


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """The first children of the recorded tape."""
    return [entry for entry in read_entries([search_cost.TAPE]) if entry.kind in SHARES][:30]


def trainings(spread: float, replays: int = 20) -> Trainings:
    """Return replays of programs whose losses lie apart by `spread` nats on average, and two failures."""
    rng = np.random.default_rng(0)
    finals = 4.0 + spread * rng.permutation(COUNT)
    falls = 2.0 * (np.exp(-3.0 * np.array(POINTS)) - np.exp(-3.0))
    losses = finals[:, None] + falls
    losses[:2, 4:] = np.nan
    ones = np.ones(COUNT)
    children = Children(
        tuple(map(str, range(COUNT))), ("live",) * COUNT, np.full(COUNT, -1), losses, losses,
        4.0 * ones, 12.0 * ones, np.ones((COUNT, 3)), ones, 4.0,
    )  # fmt: skip
    return draw_trainings(children, np.arange(COUNT), replays, rng)


def charges(drawn: float, cached: float = 1.0) -> Charges:
    ones = np.ones(COUNT)
    return Charges(4.0 * ones, 12.0 * ones, 0.0 * ones, 0.0 * ones, drawn * ones, cached)


def test_programs_far_apart_are_named_after_one_training() -> None:
    naming = name_naively(trainings(1.0), 1)
    assert (naming.overlap == NAMED).all()
    assert (naming.repeats == 0).all()


def test_more_trainings_name_close_programs_better_and_fewer_worse() -> None:
    close = trainings(0.003, replays=200)
    overlaps = [name_naively(close, effort).overlap.mean() for effort in (0.5, 1, 4, 16)]
    assert overlaps == sorted(overlaps)
    assert name_naively(close, 0.5).reached.sum(axis=1) == pytest.approx(COUNT / 2)


def test_named_programs_have_the_trainings_wanted_of_leaders() -> None:
    close = trainings(0.003)
    naming = name_with_repeats(close, reached_shares(close, Rule()), 3)
    assert ((naming.repeats == 2).sum(axis=1) >= NAMED).all()
    assert naming.repeats.max() == 2


def test_close_pairs_name_better_than_as_many_trainings_of_everything() -> None:
    close = trainings(0.003, replays=200)
    reached = reached_shares(close, Rule())
    pairs = name_with_repeats(close, reached, 1, COUNT // 2)
    assert (pairs.repeats.sum(axis=1) == COUNT).all()
    assert pairs.overlap.mean() > name_naively(close, 2).overlap.mean() > name_naively(close, 1).overlap.mean()


def test_hurdles_never_train_more_and_stop_no_good_program_that_is_far_ahead() -> None:
    apart = trainings(0.1)
    reached = reached_shares(apart, RULE)
    assert (reached <= 1.0).all() and reached.mean() < 0.9
    comparison = Comparison(apart, charges(1.0))
    naming = name_with_repeats(apart, reached)
    assert sum(comparison.seconds(naming, 1.0).values()) < comparison.every
    assert naming.overlap.mean() > 0.9 * NAMED


def test_factors_of_known_cases() -> None:
    """Against itself the naive search has the factor 1; without equal programs, identity checks save nothing."""
    apart = trainings(0.1)
    for drawn in (1.0, 2.5):
        naive, identity, hurdles = Comparison(apart, charges(drawn)).steps(5)[:3]
        assert naive.factor == pytest.approx(1.0)
        assert identity.factor == pytest.approx(drawn)
        assert hurdles.core_seconds < identity.core_seconds


def test_cached_programs_make_repeated_trainings_cheaper() -> None:
    close = trainings(0.003)
    naming = name_with_repeats(close, reached_shares(close, Rule()), 3)
    comparison = Comparison(close, charges(1.0))
    cached, fresh = (comparison.seconds(naming, share) for share in (0.1, 1.0))
    assert cached["repeated trainings"] == pytest.approx(fresh["repeated trainings"] * 12.4 / 16)
    assert cached["first compilation"] == fresh["first compilation"]


def test_mutations_that_change_nothing_are_counted_as_equal(entries: list[Entry]) -> None:
    first = [entry for entry in entries if not entry.parents][:1]
    silent = {first[0].kind: lambda dna, rng: (dna, "nothing")}
    counts = count_proposals(first, 2, silent, np.random.default_rng(0))
    assert (counts.equal.tolist(), counts.invalid.tolist()) == ([MOST_DRAWS], [0])
    untried = count_proposals(first, 2, {}, np.random.default_rng(0))
    assert untried.valid.tolist() == [1]


def test_tables_are_printed(entries: list[Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = tmp_path / "tape.jsonl"
    tape.write_text("".join(json.dumps(each.__dict__) + "\n" for each in entries))
    few = ["--tape", str(tape), "--replays", "4", "--samples", "2", "--cached", "0.2"]
    search_cost.main([*few, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["programs"] == len(children_of(entries, "TRANSFORMER/2").names) == 30
    assert found["about"]["with_the_papers_mutations"] >= 1.0
    naive = found["steps"][0]
    assert naive["factor"] == naive["part"] == naive["low"] == pytest.approx(1.0)
    assert all(row["low"] <= row["high"] for row in found["steps"])
    search_cost.main(few)
    text = capsys.readouterr().out
    for word in ("close pairs trained again", "first compilation", "hurdles that extrapolate"):
        assert word in text


def test_an_empty_tape_is_refused(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    tape.write_text("")
    with pytest.raises(SystemExit, match="at least"):
        search_cost.main(["--tape", str(tape), "--cached", "1"])
