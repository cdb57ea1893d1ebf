"""Searches on workers that fail by chance: nothing is lost, nothing counts twice, and a replay equals the memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.search.evolution.evolution import Evolution
from primer_search.search.recovery.audit import audit
from primer_search.search.runs.controller import Controller
from primer_search.search.runs.records import storable
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.tests.support.faulty_executor import RATES, FaultyExecutor
from primer_search.tests.support.tiny_runs import CONFIG, open_controller, stop_after
from primer_search.workers.protocol import Evaluation, TrialRequest

FAULTY = replace(CONFIG, search=replace(CONFIG.search, proposals=3, control_every=10))


def evaluate(request: TrialRequest) -> Evaluation:
    """A loss drawn with the seed of the request."""
    loss = float(np.random.default_rng(request.seed).uniform(3, 6))
    return Evaluation("ok", loss_nats=loss, bits_per_byte=loss / 2, hurdle_losses=(loss + 1, loss + 0.5), steps=12)


def memory(controller: Controller) -> Any:
    """What a controller knows: its figures, its population, and the candidate that it would propose next."""
    state, strategy = controller.state(), controller.evolution
    assert isinstance(strategy, Evolution)
    figures = (state.candidates, state.outcomes, state.baseline_losses, state.best, state.trials, state.hurdles)
    fitness = [strategy.fitness(number) for number in range(strategy.next_id)]
    return figures, fitness, strategy.ask()[0] if strategy.ready else None


def search(run: RunDirectory, executor: FaultyExecutor, candidates: int) -> tuple[Any, Any]:
    """Search until there are enough candidates; return the memory at the end, and that of a replay."""
    stop = stop_after(run, candidates)
    with open_controller(run, Path(), FAULTY, executor=executor, observe=stop) as (controller, _):
        assert controller.run(600.0) == "stopped"
        before = memory(controller)
    with open_controller(run, Path(), FAULTY, executor=FaultyExecutor(evaluate)) as (again, _):
        return before, memory(again)


@pytest.mark.parametrize("seed", range(3))
def test_a_search_with_all_faults_loses_nothing_and_counts_nothing_twice(tmp_path: Path, seed: int) -> None:
    run, told, drawn = RunDirectory(tmp_path / "run"), dict[int, Evaluation](), Counter[str]()
    for candidates in (15, 30, 45):
        executor = FaultyExecutor(evaluate, seed=seed + 100 * candidates)
        before, after = search(run, executor, candidates)
        assert before == after
        told |= executor.told
        drawn.update(executor.drawn)
    assert drawn.keys() == {*RATES, "none"}
    with Store.open(run.path, read_only=True) as store:
        assert audit(store) == []
        results = {trial.trial_id: trial.evaluation for trial in store.evaluations()}
        lost = {event.trial_id for event in store.events() if event.kind == "worker_lost"}
        finished = Counter(trial.candidate_id for trial in store.evaluations())
    assert results.keys() | lost == told.keys()
    for trial, evaluation in results.items():
        if evaluation.outcome != "rejected:worker_lost":
            assert evaluation == storable(told[trial])
    assert all(count == 1 for number, count in finished.items() if number), "only the baseline is trained again"


def test_a_result_that_arrives_twice_counts_once(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    executor = FaultyExecutor(evaluate, rates={"doubled message": 1.0})
    before, after = search(run, executor, 12)
    assert before == after
    with Store.open(run.path, read_only=True) as store:
        assert audit(store) == []
        assert {trial.trial_id for trial in store.evaluations()} == executor.told.keys()
