"""The leaderboard of a small run written by hand: every number in it can be checked on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.errors import UsageError
from primer_search.primitives.library import TRANSFORMER
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate
from primer_search.search.guided.guided_search import POINTS
from primer_search.search.reports.candidate_table import format_description
from primer_search.search.results.candidate_summary import summarize_candidate
from primer_search.search.results.confirmation import Retraining
from primer_search.search.results.leaderboard import best_row, leaderboard
from primer_search.search.results.leaderboard_rows import Leaderboard, LeaderboardRow
from primer_search.search.results.lineage import LineageStep, merged_parents, trace_lineage
from primer_search.search.results.program_reference import find_candidate_id
from primer_search.search.runs.records import Event
from primer_search.search.runs.store import Store
from primer_search.search.runs.time_accounting import SHARES, active_seconds, find_sessions
from primer_search.workers.protocol import Evaluation, TrialRequest


class Run:
    """A store with a clock that is moved by hand."""

    def __init__(self, path: Path, workers: int, **manifest: Any):
        self.now = 1000.0
        self.store = Store.create(path, {"workers": workers, **manifest}, clock=lambda: self.now)

    def propose(
        self,
        number: int,
        parent: int | None,
        *mutations: str,
        same_as: int | None = None,
        edits: tuple[int, ...] | None = None,
        parents: tuple[int, ...] | None = None,
    ) -> None:
        child = Candidate(number, TRANSFORMER, parent, mutations, f"hash{number}", same_as)
        statistics = {"tries": number + 1, "refused": {"widths": 2}, "how": "words are no number"}
        known = {key: list(value) for key, value in (("edits", edits), ("parents", parents)) if value is not None}
        self.store.add_candidate(child, statistics | known)

    def train(self, number: int, evaluation: Evaluation, seconds: float = 10.0) -> None:
        trial = self.store.next_trial_id()
        self.store.start_trial(TrialRequest(trial, number, "", seed=trial))
        self.now += seconds
        self.store.finish_trial(trial, evaluation)


def full(loss: float, step_ms: float = 20.0, **rest: float) -> Evaluation:
    """A full budget: 10 seconds of wall clock, of which 6 training, 2 compiling, 1 evaluating."""
    return Evaluation(
        "ok", loss_nats=loss, bits_per_byte=loss / 2, steps=300, step_ms=step_ms, parameters=1000, wall_seconds=10.0,
        train_seconds=6.0, compile_seconds=2.0, evaluate_seconds=1.0, **rest,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


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
    steps = [(step.candidate_id, step.mutations) for step in trace_lineage(run.store.pedigree(), 5)]
    assert steps == [(1, ("insert SQUARE",)), (2, ("swap", "delete EXP")), (4, ("silent",)), (5, ("delete ADD",))]
    assert rows_of(leaderboard(run.store))[5].lineage == trace_lineage(run.store.pedigree(), 5)
    assert trace_lineage(run.store.pedigree(), 0) == ()
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
    pedigree = run.store.pedigree()
    assert trace_lineage(pedigree, 4) == (
        LineageStep(1, ("insert SQUARE",), (2, 3)),
        LineageStep(2, ("swap",), (2,)),
        LineageStep(3, ("delete EXP",), (3,)),
    )
    assert [step.candidate_id for step in trace_lineage(pedigree, 5)] == [1, 2, 3, 5]
    assert trace_lineage(pedigree, 6) == (
        LineageStep(2, ("swap",)),
        LineageStep(3, ("delete EXP",)),
        LineageStep(5, ("insert LOG",)),
    )
    assert merged_parents(trace_lineage(pedigree, 4)) == (2, 3)
    assert merged_parents(trace_lineage(pedigree, 5)) == merged_parents(trace_lineage(pedigree, 6)) == ()
    merge = "\n".join(format_description(summarize_candidate(run.store, "4")))
    assert merge.startswith("candidate 4, merge of candidates 2 and 3\n")
    assert "  #1, in #2 and #3\n    insert SQUARE\n  #2, in #2\n    swap\n  #3, in #3\n    delete EXP" in merge
    revert = "\n".join(format_description(summarize_candidate(run.store, "6")))
    assert revert.startswith("candidate 6, child of candidate 5: Revert of the edit of #1\n")
    assert "insert SQUARE" not in revert
    run.store.close()


def test_totals_count_distinct_candidates_and_sum_statistics(run: Run) -> None:
    totals = leaderboard(run.store, top=1).totals
    assert (totals.candidates, totals.evaluated, totals.reused, totals.trials) == (9, 8, 1, 10)
    assert totals.outcomes == {"ok": 5, "stopped_at_hurdle": 2, "non_finite": 1}
    assert totals.proposals == {"tries": sum(range(1, 10)), "refused": {"widths": 18}}


def test_top_keeps_the_first_rows(run: Run) -> None:
    assert [row.id for row in leaderboard(run.store, top=2).rows] == [2, 1]


def test_shares_of_the_wall_clock_are_those_of_all_workers(run: Run) -> None:
    """Ten trials of 10 s on two workers for 100 s; seven tell their parts, three are known by their events only."""
    totals = leaderboard(run.store).totals
    assert totals.elapsed_seconds == 100.0
    assert totals.worker_seconds == 200.0
    parts = {"training": 42, "compiling": 14, "evaluating": 7, "probing": 0, "timing": 0, "waiting": 0}
    expected = {**parts, "confirming": 0, "other": 7 + 30, "idle": 100}
    assert totals.shares == pytest.approx({name: seconds / 200 for name, seconds in expected.items()})
    assert set(expected) == set(SHARES)


def test_a_trial_on_several_cores_takes_no_more_than_its_wall_clock(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, Evaluation("ok", loss_nats=1.0, wall_seconds=10.0, train_seconds=30.0, compile_seconds=10.0))
    shares = leaderboard(run.store).totals.shares
    assert shares == pytest.approx(dict(zip(SHARES, (0.75, 0.25, *[0.0] * 7), strict=True)))
    run.store.close()


def test_timing_the_baseline_and_waiting_for_a_processor_have_their_own_shares(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, full(3.0, timing_seconds=0.25, waiting_seconds=0.5))
    shares = leaderboard(run.store).totals.shares
    expected = (0.6, 0.2, 0.1, 0.0, 0.025, 0.05, 0.0, 0.025, 0.0)
    assert shares == pytest.approx(dict(zip(SHARES, expected, strict=True)))
    run.store.close()


def test_the_confirmation_at_the_end_of_a_search_is_not_idle_time(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.train(0, full(3.0))
    retraining = Retraining("baseline", BASELINE_ID, 1, 20.0, full(3.0))
    for closing in (True, False):  # the second by `primer-search confirm`, after the session
        run.now += 10
        run.store.add_event("confirmed", retraining.payload(), BASELINE_ID)
        if closing:
            run.now += 5
            run.store.add_event("note", {"why": "the search ended with a confirmation"})
    totals = leaderboard(run.store).totals
    assert totals.worker_seconds == 25.0
    assert totals.shares["confirming"] == pytest.approx(10 / 25)
    assert totals.shares["idle"] == pytest.approx(5 / 25)
    run.store.close()


def test_a_pause_between_two_sessions_is_nobodys_time(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.propose(0, None)
    run.store.start_trial(TrialRequest(0, 0, "", seed=0))
    run.now += 10
    run.store.add_event("note")  # then the power fails
    run.now += 5000
    run.store.add_event("run_resumed", {"workers": 3})
    run.now += 10
    run.store.cancel_trial(0, "its controller died")
    run.train(0, full(3.0))
    totals = leaderboard(run.store).totals
    assert totals.elapsed_seconds == 30.0
    assert totals.worker_seconds == 10 + 3 * 20
    assert totals.cancelled == 1
    assert totals.shares["other"] == pytest.approx((10 + 1) / 70)  # the first session's trial, and one second untold
    run.store.close()


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


@given(st.lists(st.tuples(st.sampled_from(["note", "run_resumed"]), st.floats(-5.0, 50.0)), max_size=20))
def test_time_at_work_never_exceeds_the_sessions_whatever_the_clock_does(steps: list[tuple[str, float]]) -> None:
    now, events = 0.0, [Event(1, 0.0, "run_started", None, None, {})]
    for sequence, (kind, seconds) in enumerate(steps, start=2):
        now += seconds
        events.append(Event(sequence, now, kind, None, None, {}))
    sessions = find_sessions(events)
    assert len(sessions) == 1 + sum(kind == "run_resumed" for kind, _ in steps)
    assert all(session.seconds >= 0.0 for session in sessions)
    elapsed = sum(session.seconds for session in sessions)
    assert all(0.0 <= active_seconds(sessions, event.sequence, event.wall_time) <= elapsed for event in events)


# --- runs in steps with a price ---


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


def test_other_runs_have_no_difference_at_equal_time(run: Run) -> None:
    assert all(row.equal_time_delta_nats is None for row in leaderboard(run.store).rows)
