"""The leaderboard of a small run written by hand: every number in it can be checked on paper."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import stdev

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.search.config import RunConfig
from primer_search.search.guided.stop_rule import POINTS
from primer_search.search.reports.candidate_details import print_candidate
from primer_search.search.reports.console import console_for
from primer_search.search.results.candidate_summary import summarize_candidate
from primer_search.search.results.leaderboard import best_row, leaderboard
from primer_search.search.results.leaderboard_rows import Leaderboard, LeaderboardRow
from primer_search.search.results.lineage import LineageStep, merged_parents, trace_lineage
from primer_search.search.results.program_reference import find_candidate_id
from primer_search.search.runs.store import Store
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A seed of losses 2.98, 3.0 and 3.02, and eight more candidates."""
    run = Run(tmp_path, workers=2)
    run.propose(0, None)
    for loss in (3.0, 2.98, 3.02):
        run.train(0, full(loss))
    run.propose(1, 0, "insert SQUARE")
    run.train(1, full(2.7, step_ms=25.0))
    run.propose(2, 1, "swap", "delete EXP")
    run.train(2, full(2.6))
    run.propose(3, 0, "field")
    run.train(3, full(2.95))
    run.propose(4, 2, "silent", same_as=2)
    run.store.add_event("reused", {"same_as": 2}, candidate_id=4)
    run.propose(5, 4, "delete ADD")
    run.train(5, Evaluation("stopped_at_hurdle", hurdle_losses=(4.0, 2.0), steps=40, step_ms=10.0))
    run.propose(6, 4, "delete MUL")
    run.train(6, Evaluation("stopped_at_hurdle", hurdle_losses=(1.0,), steps=10))
    run.propose(7, 0, "insert LOG")
    run.train(7, Evaluation("non_finite", message="its loss became NaN"))
    run.propose(8, 0, "bank")
    run.train(8, full(3.5))
    yield run
    run.store.close()


def rows_of(board: Leaderboard) -> dict[int, LeaderboardRow]:
    return {row.id: row for row in board.rows}


def test_full_budgets_come_first_by_loss_then_later_hurdles_and_faults_last(run: Run) -> None:
    rows = leaderboard(run.store).rows
    assert [row.id for row in rows] == [2, 1, 3, 0, 8, 5, 6, 7]
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5, None, None, None]


def test_a_candidate_is_found_by_its_number_as_the_baseline_and_as_the_best_of_the_leaderboard(run: Run) -> None:
    best = best_row(leaderboard(run.store).rows)
    assert best is not None
    assert find_candidate_id(run.store, "best") == best.id == 2
    run.train(2, full(3.4))  # a mean of 3.0
    assert find_candidate_id(run.store, "Best") == 1
    assert (find_candidate_id(run.store, "baseline"), find_candidate_id(run.store, "#7")) == (0, 7)
    for unknown in ("worst", "-1", "\u0663", "9" * 19):
        with pytest.raises(UsageError):
            find_candidate_id(run.store, unknown)


def test_before_the_first_full_trial_there_is_a_baseline_and_no_best_candidate(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, full(3.0))
    run.propose(1, 0, "insert LOG")
    run.train(1, Evaluation("non_finite"))
    assert find_candidate_id(run.store, "baseline") == 0
    with pytest.raises(UsageError, match="best"):
        find_candidate_id(run.store, "best")
    run.store.close()


def test_a_stopped_candidate_is_never_compared_with_a_full_budget(run: Run) -> None:
    """Its loss of 1.0 at the first hurdle would otherwise lead."""
    row = rows_of(leaderboard(run.store))[6]
    assert (row.loss_nats, row.bits_per_byte, row.delta_nats, row.noise_multiple) == (None, None, None, None)
    assert (row.stopped_at_hurdle, row.hurdle_loss_nats) == (1, 1.0)
    assert row.verdict == "stopped at hurdle 1, not comparable with a full budget"


def test_the_baseline_is_the_mean_of_its_trials_with_their_spread(run: Run) -> None:
    board = leaderboard(run.store)
    assert board.baseline.trials == 3
    assert board.baseline.loss_nats == pytest.approx(3.0)
    assert board.baseline.bits_per_byte == pytest.approx(1.5)
    assert board.baseline.spread_nats == pytest.approx(stdev([3.0, 2.98, 3.02])) == pytest.approx(0.02)
    # Student's t with 2 degrees of freedom: 4.303 * 0.02 * sqrt(1 + 1 / 3)
    assert board.baseline.noise_nats == pytest.approx(0.09937, abs=1e-5)
    assert (board.baseline.lowest_nats, board.baseline.highest_nats) == (2.98, 3.02)
    row = rows_of(board)[0]
    assert (row.trials, row.parent, row.delta_nats, row.speed, row.lineage) == (3, None, 0.0, 1.0, ())
    assert row.verdict == "the baseline"


def test_a_gain_is_measured_in_the_baselines_noise(run: Run) -> None:
    rows = rows_of(leaderboard(run.store))
    assert rows[1].delta_nats == pytest.approx(-0.3)
    assert rows[1].delta_bits_per_byte == pytest.approx(-0.15)
    assert rows[1].noise_multiple == pytest.approx(-0.3 / 0.09937, rel=1e-4)
    assert rows[1].speed == pytest.approx(20 / 25)
    assert rows[5].speed == pytest.approx(2.0)
    verdicts = {number: (row.inside_noise, row.verdict) for number, row in rows.items() if number}
    assert verdicts[1] == (False, "better than the baseline beyond its noise")
    assert verdicts[3] == (True, "inside the baseline's noise")
    assert verdicts[8] == (False, "worse than the baseline beyond its noise")
    assert verdicts[7] == (None, "its loss became NaN")
    assert all(row.unconfirmed for row in rows.values())


def test_a_loss_the_baseline_itself_reached_is_inside_its_noise(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    for loss in (2.0, 3.0, 3.0):
        run.train(0, full(loss))
    run.propose(1, 0)
    run.train(1, full(2.0))
    row = rows_of(leaderboard(run.store))[1]
    assert row.inside_noise is True
    run.store.close()


def test_one_trial_of_the_baseline_leaves_the_noise_unknown(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    assert leaderboard(run.store).rows == ()
    run.propose(0, None)
    run.propose(1, 0)
    run.train(1, full(2.0))  # arrives before the baseline's
    assert leaderboard(run.store).rows[0].verdict == "the baseline has no result to compare with yet"
    run.train(0, full(3.0))
    board = leaderboard(run.store)
    assert board.baseline.spread_nats is None
    assert rows_of(board)[1].delta_nats == -1.0
    assert rows_of(board)[1].noise_multiple is None
    assert rows_of(board)[1].verdict == "the baseline's noise is unknown"
    run.store.close()


def test_lineage_runs_from_the_baseline_through_reused_candidates(run: Run) -> None:
    steps = [(step.candidate_id, step.mutations) for step in trace_lineage(run.store.ancestry(), 5)]
    assert steps == [(1, ("insert SQUARE",)), (2, ("swap", "delete EXP")), (4, ("silent",)), (5, ("delete ADD",))]
    assert rows_of(leaderboard(run.store))[5].lineage == trace_lineage(run.store.ancestry(), 5)
    assert trace_lineage(run.store.ancestry(), 0) == ()
    with pytest.raises(UsageError, match="no candidate 99: choose one from 0 to 8"):
        run.store.candidate(99)


@pytest.mark.parametrize(
    ("words", "parents"),
    [("Merge of two candidates", (2, 3)), ("Merge with #3", None)],
    ids=["parents are recorded", "an earlier store"],
)
def test_a_merge_has_the_edits_of_both_parents_and_a_revert_lacks_one(
    words: str, parents: tuple[int, ...] | None, tmp_path: Path
) -> None:
    run = Run(tmp_path, workers=1, config=RunConfig().to_dict())
    run.propose(0, None)
    run.propose(1, 0, "insert SQUARE")
    run.propose(2, 1, "swap")
    run.propose(3, 1, "delete EXP")
    run.propose(4, 2, words, edits=(1, 2, 3), parents=parents)
    run.propose(5, 4, "insert LOG")
    run.propose(6, 5, "Revert of the edit of #1", edits=(2, 3, 5))
    run.train(5, full(2.0))
    run.train(4, full(2.1))
    ancestry = run.store.ancestry()
    assert trace_lineage(ancestry, 4) == (
        LineageStep(1, ("insert SQUARE",), (2, 3)),
        LineageStep(2, ("swap",), (2,)),
        LineageStep(3, ("delete EXP",), (3,)),
    )
    assert [step.candidate_id for step in trace_lineage(ancestry, 5)] == [1, 2, 3, 5]
    assert trace_lineage(ancestry, 6) == (
        LineageStep(2, ("swap",)),
        LineageStep(3, ("delete EXP",)),
        LineageStep(5, ("insert LOG",)),
    )
    assert merged_parents(trace_lineage(ancestry, 4)) == (2, 3)
    assert merged_parents(trace_lineage(ancestry, 5)) == merged_parents(trace_lineage(ancestry, 6)) == ()
    merge = shown(run, "4")
    assert merge.startswith("candidate 4, merge of candidates 2 and 3\n")
    assert "  #1, in #2 and #3\n    insert SQUARE\n  #2, in #2\n    swap\n  #3, in #3\n    delete EXP" in merge
    revert = shown(run, "6")
    assert revert.startswith("candidate 6, child of candidate 5: Revert of the edit of #1\n")
    assert "insert SQUARE" not in revert
    run.store.close()


def shown(run: Run, candidate: str) -> str:
    """What `show` prints about a candidate."""
    out = io.StringIO()
    print_candidate(summarize_candidate(run.store, candidate), console_for(out))
    return out.getvalue()


def test_totals_count_distinct_candidates_and_sum_statistics(run: Run) -> None:
    totals = leaderboard(run.store, top=1).totals
    assert (totals.candidates, totals.evaluated, totals.reused, totals.trials) == (9, 8, 1, 10)
    assert totals.outcomes == {"ok": 5, "stopped_at_hurdle": 2, "non_finite": 1}
    assert totals.proposals == {"tries": sum(range(1, 10)), "refused": {"widths": 18}}


def test_a_candidate_that_diverged_in_another_training_is_not_ranked(run: Run) -> None:
    run.train(2, Evaluation("non_finite", message="its loss became NaN"))
    board = leaderboard(run.store)
    unstable = rows_of(board)[2]
    assert [row.id for row in board.rows] == [1, 3, 0, 8, 2, 5, 6, 7]
    assert (unstable.rank, unstable.loss_nats, unstable.diverged) == (None, 2.6, 1)
    assert unstable.verdict == "unstable: 1 of 2 trainings diverged"
    assert (rows_of(board)[7].diverged, rows_of(board)[1].rank) == (0, 1)
    best = best_row(board.rows)
    assert best is not None and best.id == find_candidate_id(run.store, "best") == 1


def test_top_keeps_the_first_rows(run: Run) -> None:
    assert [row.id for row in leaderboard(run.store, top=2).rows] == [2, 1]


def test_the_json_form_is_plain_json_in_the_documented_form(run: Run) -> None:
    board = leaderboard(run.store).to_dict()
    assert json.loads(json.dumps(board, allow_nan=False))["run"] == str(run.store.run.path)
    assert {"id", "parent", "loss_nats", "bits_per_byte", "outcome", "parameters", "step_ms"} <= set(
        board["candidates"][0]
    )
    assert [row["id"] for row in board["candidates"]] == [2, 1, 3, 0, 8, 5, 6, 7]
    assert board["unconfirmed"] is True
    assert board["candidates"][1]["lineage"] == (
        {"candidate_id": 1, "mutations": ("insert SQUARE",), "merged_from": ()},
    )


def test_a_reader_ranks_while_the_controller_writes(run: Run) -> None:
    with Store.open(run.store.run.path, read_only=True) as reader:
        run.propose(9, 0, "x")
        run.train(9, full(1.0))
        assert leaderboard(reader).rows[0].id == 9
    assert leaderboard(run.store).rows[0].id == 9


@pytest.fixture
def priced(tmp_path: Path) -> Iterator[Run]:
    """A guided run whose baseline falls by 0.5 nats per factor e of steps: a faster, a slower and an equal child."""
    run = Run(tmp_path, workers=1)
    config = {"search": {"strategy": "guided"}, "trial": {"unit": "steps", "price": True, "budget_steps": 300}}
    run.store.set_manifest({"config": config})
    run.propose(0, None)
    for loss in (2.99, 3.01, 3.0):
        run.train(0, timed(loss, 1.0))
    for number, loss, relative_step in ((1, 2.9, 0.8), (2, 2.8, 1.5), (3, 2.85, 1.0)):
        run.propose(number, 0, "edit")
        run.train(number, timed(loss, relative_step))
    yield run
    run.store.close()


def timed(loss: float, relative_step: float) -> Evaluation:
    losses = tuple(loss - 0.5 * math.log(point) for point in POINTS)
    counts = {"step_flops": 1e9 * relative_step, "step_bytes": 1e8 * relative_step, "step_transcendentals": 1e6}
    return full(loss, hurdle_losses=losses, relative_step=relative_step, **counts)  # pyright: ignore[reportArgumentType]


def test_differences_at_equal_time_have_the_price_of_the_steps(priced: Run) -> None:
    rows = {row.id: row for row in leaderboard(priced.store).rows}
    assert rows[0].equal_time_delta_nats == pytest.approx(0.0)
    for number, loss, relative_step in ((1, 2.9, 0.8), (2, 2.8, 1.5), (3, 2.85, 1.0)):
        expected = loss - 3.0 + 0.5 * math.log(relative_step)
        assert rows[number].delta_nats == pytest.approx(loss - 3.0)
        assert rows[number].equal_time_delta_nats == pytest.approx(expected, abs=0.03)
        bits = rows[number].equal_time_delta_bits_per_byte
        assert bits is not None and bits == pytest.approx((rows[number].equal_time_delta_nats or 0.0) / 2)


def test_rows_are_ranked_by_the_worse_of_both_differences(priced: Run) -> None:
    board = leaderboard(priced.store)
    assert [row.id for row in board.rows] == [3, 1, 0, 2]
    assert find_candidate_id(priced.store, "best") == 3
    slow = next(row for row in board.rows if row.id == 2)
    assert slow.delta_nats is not None and slow.noise_multiple is not None
    assert slow.delta_nats < 0 < slow.noise_multiple, "it is worse at equal time"
    facts = shown(priced, "2")
    assert "difference  -0.2000 nats, -0.1000 bits/byte at equal steps · +0.0" in facts
    assert f"the worse is {slow.noise_multiple:+.1f} times the baseline's noise" in facts


def test_a_candidate_is_better_only_if_it_is_at_equal_steps_and_at_equal_time(priced: Run) -> None:
    priced.propose(4, 0, "edit")
    priced.train(4, timed(3.2, 0.5))  # slower to learn, at half of the time for each step
    priced.propose(5, 0, "edit")
    priced.train(5, timed(2.8, 2.0))
    rows = {row.id: row for row in leaderboard(priced.store).rows}
    assert {number: row.better for number, row in rows.items() if number} == {
        1: True,
        2: False,
        3: True,
        4: False,
        5: False,
    }
    assert rows[5].verdict == "better at equal steps, worse at equal time"
    assert rows[4].verdict == "worse at equal steps, better at equal time"
    assert rows[3].verdict == "better than the baseline beyond its noise"


def test_other_runs_have_no_difference_at_equal_time(run: Run) -> None:
    assert all(row.equal_time_delta_nats is None for row in leaderboard(run.store).rows)
