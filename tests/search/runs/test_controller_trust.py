"""What the controller does so that results can be believed: controls, calibration, and suspicion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primer_search.primitives.errors import WorkFailedError
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.tests.support.tiny_runs import CONFIG, open_controller, stop_after
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest

QUICK = replace(CONFIG, search=replace(CONFIG.search, proposals=3))
REFERENCE = replace(QUICK, trial=replace(QUICK.trial, unit="reference_seconds", budget_seconds=12.0))


class CalibratedTrainer:
    """Losses that are a function of the request; reports the step time it was given, and records every request."""

    def __init__(self, step_ms: float | None = None):
        self.step_ms = step_ms
        self.requests: list[TrialRequest] = []

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        self.requests.append(request)
        if request.calibrate:
            return Evaluation("ok" if self.step_ms else "worker_lost", "gone", step_ms=self.step_ms)
        loss = float(np.random.default_rng(request.seed).uniform(3, 6))
        return Evaluation("ok", loss_nats=loss, bits_per_byte=loss / 2, hurdle_losses=(loss + 1, loss + 0.5), steps=12)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_the_baseline_is_trained_again_after_every_control_every_candidates(run: RunDirectory) -> None:
    config = replace(QUICK, search=replace(QUICK.search, control_every=3))
    stop = stop_after(run, 11)
    with open_controller(run, Path(), config, executor=InlineExecutor(CalibratedTrainer), observe=stop) as (
        controller,
        store,
    ):
        controller.run(600.0)
        order = [event.candidate_id for event in store.events() if event.kind == "started"]
        originals = [each.id for each in store.candidates() if each.same_as is None and each.id != BASELINE_ID]
    controls = [place for place, number in enumerate(order) if number == BASELINE_ID][config.search.baseline_trials :]
    assert len(controls) in (len(originals) // 3, len(originals) // 3 - 1)
    assert all(sum(number != BASELINE_ID for number in order[:place]) % 3 == 0 for place in controls)


def test_where_budgets_are_in_reference_seconds_the_baseline_is_timed_once_for_the_whole_run(run: RunDirectory) -> None:
    trainer = CalibratedTrainer(25.0)
    for candidates in (3, 6):
        executor = InlineExecutor(lambda: trainer)
        with open_controller(run, Path(), REFERENCE, executor=executor, observe=stop_after(run, candidates)) as (it, _):
            it.run(600.0)
    assert [request.calibrate for request in trainer.requests].count(True) == 1
    assert trainer.requests[0].calibrate
    assert {request.allowance_seconds for request in trainer.requests[1:]} == {0.025}


def test_an_allowance_that_is_given_needs_no_timing(run: RunDirectory) -> None:
    trainer = CalibratedTrainer(None)
    config = replace(REFERENCE, trial=replace(REFERENCE.trial, allowance_ms=15.0))
    with open_controller(run, Path(), config, executor=InlineExecutor(lambda: trainer), observe=stop_after(run, 3)) as (
        it,
        _,
    ):
        it.run(600.0)
    assert {request.allowance_seconds for request in trainer.requests} == {0.015}


def test_a_baseline_that_cannot_be_timed_ends_the_search_with_the_reason(run: RunDirectory) -> None:
    trainer = CalibratedTrainer(None)
    with (
        open_controller(run, Path(), REFERENCE, executor=InlineExecutor(lambda: trainer)) as (controller, _),
        pytest.raises(WorkFailedError, match="could not be timed: gone"),
    ):
        controller.run(600.0)


def test_results_below_the_plausible_are_marked_for_a_recheck_once_the_baseline_is_known(run: RunDirectory) -> None:
    trainer = CalibratedTrainer(None)
    with open_controller(run, Path(), QUICK, executor=InlineExecutor(lambda: trainer), observe=stop_after(run, 5)) as (
        it,
        _,
    ):
        it.ngram_nats = 2.5
        it.run(600.0)
    seeds = [request for request in trainer.requests if request.candidate_id == BASELINE_ID]
    others = [request for request in trainer.requests if request.candidate_id != BASELINE_ID]
    assert {request.suspicious_nats for request in seeds} == {None}
    assert {request.suspicious_nats for request in others} == {2.5}
