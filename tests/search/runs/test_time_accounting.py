"""Shares of the wall clock of a run written by hand, and the time of its sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.results.confirmation import Retraining
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.records import Event
from primer_search.search.runs.time_accounting import SHARES, active_seconds, find_sessions
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation, TrialRequest


def test_shares_of_the_wall_clock_are_those_of_all_workers(tmp_path: Path) -> None:
    """Ten trials of 10 s on two workers for 100 s; seven tell their parts, three are known by their events only."""
    run = Run(tmp_path, workers=2)
    run.propose(0, None)
    for trial in range(10):
        run.train(0, full(3.0) if trial < 7 else Evaluation("stopped_at_hurdle", hurdle_losses=(4.0,), steps=40))
    totals = leaderboard(run.store).totals
    assert totals.elapsed_seconds == 100.0
    assert totals.worker_seconds == 200.0
    parts = {"training": 42, "compiling": 14, "evaluating": 7, "probing": 0, "timing": 0, "waiting": 0}
    expected = {**parts, "confirming": 0, "other": 7 + 30, "idle": 100}
    assert totals.shares == pytest.approx({name: seconds / 200 for name, seconds in expected.items()})
    assert set(expected) == set(SHARES)
    run.store.close()


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
