"""Simulate a search: everything is real except the trainings and the workers' time.

The controller, the strategy with its mutations and checks, the hurdles and the store are the same as in a search. The
workers' time is virtual. The time of the controller's process is real by default
(`SimulationOptions.controller_clock`), so the summary shows how many workers the controller can keep busy. The data,
Ray, and confirmations at the end are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from ...primitives.errors import UsageError
from ...primitives.programs.program_json import dna_to_json
from ...system.durations import format_duration
from ...workers.executors.simulated import SimulatedExecutor, VirtualClock
from ..config import RunConfig
from ..guided.make_strategy import GUIDED_STRATEGIES, make_strategy
from ..runs.controller import Controller
from ..runs.progress_snapshot import ProgressSnapshot
from ..runs.provenance import command_line, versions
from ..runs.run_directory import RunDirectory
from ..runs.store import Store
from .copied_children import CopyingEvolution
from .found_program import found_program
from .recorded_trainings import Recording, load_recording
from .simulated_trainer import SimulatedTrainer
from .simulation_summary import Checkpoint, Meter, SimulationSummary, summarize
from .true_programs import TruePrograms

__all__ = ["CONTROLLER_CLOCKS", "SimulationOptions", "simulate"]

CONTROLLER_CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter, "none": None}
"""Clocks that time the controller's own work. With `none`, this work takes no simulated time, so simulations with the
same random seed have the same result."""

FIRST_CHECKPOINT = 500
"""Number of trials at the first measurement of growth. Each later one follows after twice as many trials."""

PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Options of a simulation.

    Attributes:
        workers: number of simulated workers.
        budget_seconds: virtual time of the search.
        seed: random seed of the search and of the invented trainings.
        proposals: `real`, or `copies` (see `copied_children`).
        controller_clock: key of `CONTROLLER_CLOCKS`.
        limit_seconds: real time after which the simulation ends even if its budget is not spent; None: no limit.
        overhead_seconds: time that a trial takes in addition to training; None: as in the recorded trainings.
    """

    workers: int
    budget_seconds: float
    seed: int = 0
    proposals: Literal["real", "copies"] = "real"
    controller_clock: Literal["cpu", "wall", "none"] = "cpu"
    limit_seconds: float | None = None
    overhead_seconds: float | None = None

    def check(self, config: RunConfig) -> None:
        """Check that the options fit the settings.

        Raises:
            UsageError: there are no workers, a trial does not fit into the budget, or the strategy cannot be simulated.
        """
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: a simulation needs at least one worker")
        trial, strategy = config.trial, config.search.strategy
        seconds = trial.budget * load_recording().step_ms / 1000 if trial.unit == "steps" else trial.budget
        if seconds > self.budget_seconds:
            raise UsageError(
                f"the budget of {format_duration(self.budget_seconds)} is shorter than a full trial of "
                f"{format_duration(seconds)}: "
                "give a longer --budget, or a shorter --trial-budget"
            )
        if strategy == "random-init":
            raise UsageError(
                "search.strategy = random-init cannot be simulated: no training of a random program is recorded"
            )
        if self.proposals == "copies" and strategy in GUIDED_STRATEGIES:
            raise UsageError(
                f"--proposals copies is for evolution: the models of search.strategy = {strategy} need real programs"
            )


def simulate(
    config: RunConfig,
    options: SimulationOptions,
    run: RunDirectory,
    tell: Callable[[str], None] = lambda line: None,
    recording: Recording | None = None,
) -> SimulationSummary:
    """Simulate a search in an empty directory.

    Args:
        config: run configuration.
        options: options of the simulation.
        run: existing empty directory of the run, whose store is marked as simulated.
        tell: callback that receives a line of progress every `PROGRESS_SECONDS`.
        recording: recorded trainings; None: the recording in this package.

    Raises:
        UsageError: the options do not fit the settings.
    """
    options.check(config)
    baseline = config.model.library_program(config.search.baseline)
    clock = VirtualClock(CONTROLLER_CLOCKS[options.controller_clock])
    manifest = {
        "command": command_line(),
        "config": config.to_dict(),
        "seed": options.seed,
        "baseline_dna": dna_to_json(baseline),
        "initial_programs": [],
        "budget_seconds": options.budget_seconds,
        "workers": options.workers,
        "versions": versions(),
        "simulated": asdict(options),
    }
    strategy = (CopyingEvolution if options.proposals == "copies" else make_strategy)(config, options.seed, baseline)
    recording = recording or load_recording()
    mutations = "live" if config.search.strategy in GUIDED_STRATEGIES else "paper"
    programs = TruePrograms(recording, options.seed, strategy.candidate, mutations)
    trainer = SimulatedTrainer(config.trial, recording, programs, options.overhead_seconds)
    with (
        Store.create(run.path, manifest, clock.time) as store,
        SimulatedExecutor(trainer, options.workers, clock) as executor,
    ):
        store.never_wait_for_disk()
        watch = _Watch(options, store, executor, tell)
        controller = Controller(
            config,
            options.seed,
            baseline,
            store,
            executor,
            observe=watch.observe,
            strategy=strategy,
            clock=clock.monotonic,
            tick_seconds=options.budget_seconds,
        )
        started_at = clock.monotonic()
        controller.run(options.budget_seconds, started_at)
        simulated = clock.monotonic() - started_at
        real_seconds, growth = watch.meter.real_seconds, [*watch.growth, watch.meter.checkpoint(simulated)]
        best = controller.state().best
        found = found_program(best and best.id, store.outcomes(), strategy.candidate, programs)
        return summarize(controller, executor, real_seconds, growth, options.budget_seconds, simulated, found)


class _Watch:
    """Observes a simulation: measures its growth, prints its progress, and stops it at its limit."""

    def __init__(
        self, options: SimulationOptions, store: Store, executor: SimulatedExecutor, tell: Callable[[str], None]
    ):
        self.meter = Meter(store, executor)
        self.growth: list[Checkpoint] = []
        self._options = options
        self._store = store
        self._executor = executor
        self._tell = tell
        self._next_line = PROGRESS_SECONDS
        self._next_checkpoint = FIRST_CHECKPOINT

    def observe(self, state: ProgressSnapshot) -> None:
        """Take note of the state after one turn of the controller's loop."""
        trials, now = self._executor.started, self.meter.real_seconds
        if trials >= self._next_checkpoint:
            self._next_checkpoint = 2 * trials
            self.growth.append(self.meter.checkpoint(state.elapsed_seconds))
        if now >= self._next_line:
            self._next_line = now + PROGRESS_SECONDS
            self._tell(
                f"{format_duration(state.elapsed_seconds)} of {format_duration(state.budget_seconds)} simulated: "
                f"{trials:,} trials, {trials / now:,.0f} a second"
            )
        if self._options.limit_seconds is not None and now > self._options.limit_seconds:
            self._store.run.request_stop()
