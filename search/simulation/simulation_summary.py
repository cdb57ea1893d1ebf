"""Summary of a simulation: use of the workers, savings by hurdles, and costs of the controller and the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...system.host import resident_bytes
from ...workers.executors.simulated import SimulatedExecutor
from ..runs.controller import Controller
from ..runs.controller_time import CONTROLLER_PHASES, ControllerTime
from ..runs.store import Store
from .found_program import FoundProgram

__all__ = ["Checkpoint", "Meter", "PhaseCost", "SimulationSummary", "summarize"]

ENOUGH_TRIALS = 3
"""Number of full trials, one after the other, that must be simulated before the rates hold for the whole budget."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Sizes and costs so far.

    Attributes:
        virtual_seconds: virtual time.
        trials: trials started.
        controller_seconds: CPU time of the controller.
        store_bytes: size of the store on disk.
        memory_bytes: resident memory of the process.
    """

    virtual_seconds: float
    trials: int
    controller_seconds: float
    store_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Cost of one phase of the controller's loop.

    Attributes:
        phase: key of `CONTROLLER_PHASES`, or `rest`.
        cpu_ms: CPU time per trial, in milliseconds.
        wall_ms: wall-clock time per trial, in milliseconds, including waits for the disk and the processor; None for
            `rest`.
        share: share of the controller's CPU time.
    """

    phase: str
    cpu_ms: float
    wall_ms: float | None
    share: float


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """Result of a simulation.

    Attributes:
        workers: number of workers.
        budget_seconds, simulated_seconds: virtual time of the budget, and of its simulated part.
        complete: whether the whole budget was simulated.
        candidates, reused: number of proposed candidates, and how many of them equal an earlier one, so that they were
            not trained.
        trials: number of trials started.
        outcomes: number of finished trials by outcome.
        cancelled: number of trials that were still running at the end, and have no result.
        unaccounted: number of trials that the store and the executor count differently; 0 unless the controller loses
            a trial.
        utilisation: share of the workers' time that is spent in trials.
        mean_trial_seconds: mean virtual time of a finished trial.
        full_trial_seconds: virtual time of the longest trial.
        full_budgets: total training, as a number of full trial budgets.
        hurdle_savings: share of the training of these trials that hurdles saved.
        store_bytes, memory_bytes: size of the store, and resident memory of the process, at the end.
        controller_seconds: CPU time of the controller.
        phases: cost of the phases of the controller.
        real_seconds: wall-clock time of the simulation.
        growth: measurements during the simulation; the last one is from the end.
        found: the program that the search ranks first.
    """

    workers: int
    budget_seconds: float
    simulated_seconds: float
    complete: bool
    candidates: int
    reused: int
    trials: int
    outcomes: dict[str, int]
    cancelled: int
    unaccounted: int
    utilisation: float
    mean_trial_seconds: float
    full_trial_seconds: float
    full_budgets: float
    hurdle_savings: float
    store_bytes: int
    memory_bytes: int
    controller_seconds: float
    phases: tuple[PhaseCost, ...]
    real_seconds: float
    growth: tuple[Checkpoint, ...]
    found: FoundProgram

    @property
    def is_steady(self) -> bool:
        """Whether enough time was simulated for the rates to hold for the whole budget."""
        return self.simulated_seconds >= ENOUGH_TRIALS * self.full_trial_seconds

    @property
    def trials_per_day(self) -> float:
        """Trials that all workers finish in a virtual day."""
        return self.workers * self.utilisation * 86_400.0 / self.mean_trial_seconds if self.mean_trial_seconds else 0.0

    @property
    def controller_trials_per_second(self) -> float:
        """Trials that the controller can propose, record and start in a second of CPU time."""
        return self.trials / self.controller_seconds if self.controller_seconds else 0.0

    @property
    def largest_workers(self) -> int:
        """Number of workers that the controller can keep busy with trials of this length."""
        return int(self.controller_trials_per_second * self.mean_trial_seconds)

    @property
    def shortest_trial_seconds(self) -> float:
        """Shortest mean time of a trial at which the controller can keep these workers busy."""
        return self.workers / self.controller_trials_per_second if self.controller_seconds else 0.0

    @property
    def whole_budget(self) -> dict[str, float] | None:
        """Estimates for the whole budget if growth continues; None if the whole budget or too little was simulated."""
        if self.complete or len(self.growth) < 2 or not self.is_steady:
            return None
        trials = self.trials_per_day * self.budget_seconds / 86_400.0
        first, last = self.growth[0], self.growth[-1]
        more = (trials - last.trials) / max(last.trials - first.trials, 1)
        return {
            "trials": round(trials),
            "store_bytes": round(last.store_bytes + more * (last.store_bytes - first.store_bytes)),
            "memory_bytes": round(last.memory_bytes + more * (last.memory_bytes - first.memory_bytes)),
            "controller_seconds": last.controller_seconds + more * (last.controller_seconds - first.controller_seconds),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **asdict(self),
            "trials_per_day": self.trials_per_day,
            "controller_trials_per_second": self.controller_trials_per_second,
            "largest_workers": self.largest_workers,
            "shortest_trial_seconds": self.shortest_trial_seconds,
            "whole_budget": self.whole_budget,
        }


class Meter:
    """Measures a simulation while it runs.

    Args:
        store: store of the simulated run.
        executor: executor of the simulated run.
    """

    def __init__(self, store: Store, executor: SimulatedExecutor):
        self._store = store
        self._executor = executor
        self._cpu_start, self._wall_start = time.process_time(), time.perf_counter()

    @property
    def real_seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.perf_counter() - self._wall_start

    def checkpoint(self, virtual_seconds: float) -> Checkpoint:
        """Return the sizes and costs so far."""
        run = self._store.run
        files = (run.store, run.store.with_name(f"{run.store.name}-wal"))
        return Checkpoint(
            virtual_seconds,
            self._executor.started,
            time.process_time() - self._cpu_start - self._executor.trainer_seconds,
            sum(file.stat().st_size for file in files if file.exists()),
            resident_bytes(),
        )


def summarize(
    controller: Controller,
    executor: SimulatedExecutor,
    real_seconds: float,
    growth: Sequence[Checkpoint],
    budget_seconds: float,
    simulated_seconds: float,
    found: FoundProgram,
) -> SimulationSummary:
    """Return the summary of a simulation that has ended.

    Args:
        controller, executor: controller and executor of the simulation.
        real_seconds: wall-clock time of the simulation.
        growth: measurements during the simulation; the last one is from the end.
        budget_seconds, simulated_seconds: virtual time of the budget, and of its simulated part.
        found: the program that the search ranks first.
    """
    end, state = growth[-1], controller.state()
    counts = controller.store.trial_counts()
    kinds: Counter[str] = Counter()
    for outcome, number in state.outcomes.items():
        kinds[outcome.partition(":")[0]] += number
    trained = kinds["ok"] + kinds["stopped_at_hurdle"]
    full_budgets = executor.spent / controller.config.trial.budget
    return SimulationSummary(
        workers=executor.slots,
        budget_seconds=budget_seconds,
        simulated_seconds=simulated_seconds,
        complete=simulated_seconds >= budget_seconds,
        candidates=state.candidates,
        reused=controller.store.event_count("reused"),
        trials=executor.started,
        outcomes=dict(kinds),
        cancelled=executor.cancelled,
        unaccounted=abs(counts.get("finished", 0) - executor.finished)
        + abs(counts.get("cancelled", 0) - executor.cancelled)
        + abs(executor.started - executor.finished - executor.cancelled)
        + counts.get("running", 0),
        utilisation=executor.busy_seconds / (executor.slots * simulated_seconds),
        mean_trial_seconds=executor.finished_seconds / executor.finished if executor.finished else 0.0,
        full_trial_seconds=executor.longest_seconds,
        full_budgets=full_budgets,
        hurdle_savings=1.0 - full_budgets / trained if trained else 0.0,
        store_bytes=end.store_bytes,
        memory_bytes=end.memory_bytes,
        controller_seconds=end.controller_seconds,
        phases=_phase_costs(controller.phases, executor.started, end.controller_seconds),
        real_seconds=real_seconds,
        growth=tuple(growth),
        found=found,
    )


def _phase_costs(times: ControllerTime, trials: int, controller_seconds: float) -> tuple[PhaseCost, ...]:
    """Return the costs of all phases; `rest` is the CPU time outside of them."""
    cpu = {phase: times.cpu_seconds[phase] for phase in CONTROLLER_PHASES}
    cpu["rest"] = max(0.0, controller_seconds - sum(cpu.values()))
    wall = {**{phase: times.wall_seconds[phase] for phase in CONTROLLER_PHASES}, "rest": None}
    return tuple(
        PhaseCost(
            phase,
            1000.0 * seconds / max(trials, 1),
            _milliseconds(wall[phase], trials),
            seconds / max(controller_seconds, 1e-9),
        )
        for phase, seconds in cpu.items()
    )


def _milliseconds(seconds: float | None, trials: int) -> float | None:
    return None if seconds is None else 1000.0 * seconds / max(trials, 1)
