"""Whole simulated searches: nothing is lost or counted twice, they replay, and no command mistakes them for results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from primer_search.configs.load import load
from primer_search.primitives import UsageError
from primer_search.search.config import RunConfig
from primer_search.search.evolution.evolution import Evolution
from primer_search.search.runs.controller import Controller
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.time_accounting import shares_of_wall_clock
from primer_search.search.sessions import session
from primer_search.search.simulation.copied_children import CopyingEvolution
from primer_search.search.simulation.recorded_trainings import load_recording
from primer_search.search.simulation.simulate import SimulationOptions, simulate
from primer_search.search.simulation.simulated_trainer import SimulatedTrainer
from primer_search.search.simulation.true_programs import TruePrograms
from primer_search.workers.executors.simulated import SimulatedExecutor, VirtualClock
from primer_search.workers.protocol import Evaluation, TrialRequest

PAPER = load("primer_paper", ["search.population=8", "search.tournament=3"])
OPTIONS = SimulationOptions(7, 5 * PAPER.trial.budget, proposals="copies", controller_clock="none")


def simulated_store(folder: Path, options: SimulationOptions = OPTIONS, config: RunConfig = PAPER):
    """Simulate a search; return its summary and its store, open for reading."""
    folder.mkdir(exist_ok=True)
    summary = simulate(config, options, RunDirectory(folder))
    return summary, Store.open(folder, read_only=True, simulated=True)


def story(store: Store) -> list[tuple[str, int | None, int | None]]:
    return [(event.kind, event.candidate_id, event.trial_id) for event in store.events()]


@pytest.mark.parametrize("proposals", ["real", "copies"])
def test_no_trial_is_lost_or_counted_twice(tmp_path: Path, proposals) -> None:
    workers = 7 if proposals == "copies" else 2  # mutations take time
    options = replace(OPTIONS, workers=workers, proposals=proposals)
    summary, store = simulated_store(tmp_path / "run", options)
    with store:
        events, finished, status = store.events(), store.evaluations(), store.trial_counts()
    kinds = Counter(event.kind for event in events)
    assert summary.unaccounted == 0 and "running" not in status
    assert summary.trials == kinds["started"] == kinds["evaluated"] + kinds["cancelled"]
    assert kinds["evaluated"] == len(finished) == len({trial.trial_id for trial in finished})
    assert (status["finished"], status["cancelled"]) == (sum(summary.outcomes.values()), summary.cancelled)
    assert summary.complete and summary.cancelled == workers
    assert summary.candidates == kinds["proposed"] and summary.reused == kinds["reused"]
    assert {event.kind for event in events} >= {"run_started", "run_ended"}


def test_utilisation_by_the_events_is_that_of_the_executor(tmp_path: Path) -> None:
    summary, store = simulated_store(tmp_path / "run")
    with store:
        events = store.events()
        shares, seconds = shares_of_wall_clock(events, store.evaluations(), OPTIONS.workers)
    assert seconds == pytest.approx(OPTIONS.workers * OPTIONS.budget_seconds)
    assert 1.0 - shares["idle"] == pytest.approx(summary.utilisation, abs=1e-6)
    assert summary.utilisation > 0.99


def test_workers_are_idle_while_a_controller_without_speed_works(tmp_path: Path) -> None:
    """A controller that takes a tenth of a trial to propose a candidate keeps ten workers busy, not forty."""
    trial = replace(PAPER.trial, hurdles=0, budget_seconds=100.0)
    config = replace(PAPER, trial=trial)
    times = []
    for workers in (5, 40):
        run = RunDirectory(tmp_path / str(workers))
        run.path.mkdir()
        slow = VirtualClock(_Steps(10.0))
        baseline = config.model.library_program("TRANSFORMER")
        with (
            Store.create(run.path, {"simulated": {}, "workers": workers}, slow.time) as store,
            SimulatedExecutor(_FixedTrainer(), workers, slow) as executor,
        ):
            controller = Controller(
                config, 0, baseline, store, executor, clock=slow.monotonic, tick_seconds=1e9,
                strategy=_SlowEvolution(config, slow, baseline),
            )  # fmt: skip
            controller.run(3000.0)
            times.append(executor.busy_seconds / (workers * 3000.0))
    assert times[0] > 0.85 and 0.2 < times[1] < 0.3


class _Steps:
    """A clock of a process that advances only in proposals."""

    def __init__(self, seconds: float):
        self.seconds, self.now = seconds, 0.0

    def __call__(self) -> float:
        return self.now


class _FixedTrainer:
    def run(self, request: TrialRequest, progress) -> Evaluation:
        return Evaluation("ok", loss_nats=3.0, wall_seconds=100.0, spent=100.0)


class _SlowEvolution(CopyingEvolution):
    def __init__(self, config: RunConfig, clock: VirtualClock, baseline):
        super().__init__(config, 0, baseline)
        self._slow = clock._own

    def ask(self):
        self._slow.now += self._slow.seconds  # type: ignore[attr-defined]
        return super().ask()


def test_a_simulation_without_the_controllers_time_repeats_exactly(tmp_path: Path) -> None:
    _, first = simulated_store(tmp_path / "first")
    _, again = simulated_store(tmp_path / "again")
    _, other = simulated_store(tmp_path / "other", replace(OPTIONS, seed=1))
    with first, again, other:
        assert story(first) == story(again)
        assert [trial.evaluation for trial in first.evaluations()] == [
            trial.evaluation for trial in again.evaluations()
        ]
        assert [trial.evaluation for trial in first.evaluations()] != [
            trial.evaluation for trial in other.evaluations()
        ]


def test_the_store_replays_to_the_population_of_the_simulation(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    baseline = PAPER.model.library_program("TRANSFORMER")
    ended = CopyingEvolution(PAPER, 0, baseline)
    programs = TruePrograms(load_recording(), 0, ended.candidate)
    trainer, clock = SimulatedTrainer(PAPER.trial, load_recording(), programs), VirtualClock()
    with (
        Store.create(run.path, {"simulated": {}, "workers": 7}, clock.time) as store,
        SimulatedExecutor(trainer, 7, clock) as executor,
    ):
        controller = Controller(
            PAPER, 0, baseline, store, executor, strategy=ended, clock=clock.monotonic, tick_seconds=1e9
        )
        controller.run(OPTIONS.budget_seconds)
    with Store.open(run.path, simulated=True) as store:
        replayed = Controller(PAPER, 0, baseline, store, SimulatedExecutor(trainer, 7, clock)).evolution
    assert isinstance(replayed, Evolution) and ended.next_id > 50
    assert replayed.population.members == ended.population.members and len(ended.population) == 8
    assert replayed.hurdles.thresholds() == ended.hurdles.thresholds()
    assert replayed.next_id == ended.next_id


def test_a_guided_search_is_simulated(tmp_path: Path) -> None:
    config = load("laptop", ["search.population=6"])
    options = SimulationOptions(4, 120.0, controller_clock="none", overhead_seconds=3.0)
    summary, store = simulated_store(tmp_path / "run", options, config)
    with store:
        events = store.events()
    assert summary.unaccounted == 0 and summary.complete and summary.trials > 25
    descriptions = {event.kind for event in events}
    assert {"proposed", "started", "evaluated"} <= descriptions
    assert summary.outcomes["stopped_at_hurdle"] > 0 and 0 < summary.hurdle_savings < 1


def test_no_other_command_opens_a_simulated_run(tmp_path: Path) -> None:
    simulated_store(tmp_path / "run")[1].close()
    for read_only in (True, False):
        with pytest.raises(UsageError, match="is simulated: its results are invented"):
            Store.open(tmp_path / "run", read_only=read_only)
    with pytest.raises(UsageError, match="is simulated"):
        session.resume(tmp_path / "run")


def test_the_limit_ends_a_simulation_early_and_its_summary_says_so(tmp_path: Path) -> None:
    summary, store = simulated_store(tmp_path / "run", replace(OPTIONS, limit_seconds=0.5, budget_seconds=1e7))
    store.close()
    assert not summary.complete and summary.unaccounted == 0
    assert 0 < summary.simulated_seconds < 1e7


@pytest.mark.parametrize(
    ("changes", "strategy", "message"),
    [
        ({"workers": 0}, "evolution", "at least one worker"),
        ({"budget_seconds": 3600.0}, "evolution", "is shorter than a full trial"),
        ({}, "random-init", "cannot be simulated"),
        ({"proposals": "copies"}, "guided", "is for evolution"),
    ],
)
def test_options_that_cannot_be_simulated_are_refused(changes, strategy: str, message: str) -> None:
    config = replace(PAPER, search=replace(PAPER.search, strategy=strategy))
    with pytest.raises(UsageError, match=message):
        replace(OPTIONS, **changes).check(config)
