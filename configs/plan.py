"""Plan of a search, from the options of the user: preset, settings, hardware, and a trial budget that fits.

Planning does not write or start anything; `--dry-run` prints the plan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..primitives.errors import UsageError
from ..search.config import MIN_TRIALS_PER_WORKER, RunConfig, with_trial_budget
from ..search.evolution.hurdles import hurdle_positions
from ..search.guided.make_strategy import GUIDED_STRATEGIES
from ..search.guided.stop_rule import POINTS, STOPS
from ..search.results.trust.epoch_warning import epoch_warning
from ..search.runs.run_directory import RUNS
from ..system.durations import format_duration, parse_duration
from ..workers.data.dataset import check_source, find_prepared_dataset
from ..workers.devices.ray_environment import check_address
from ..workers.executors.factory import check_installed
from .consistency import refuse_contradictions
from .expected_candidates import TrainingShares, expected_candidates
from .hardware import Hardware, choose_devices, hardware_for
from .load import DEFAULT_PRESETS, load
from .overrides import parse_override
from .planned_end import PlannedEnd
from .scale_option import larger_scale

if TYPE_CHECKING:
    from ..search.evolution.initial_programs import InitialProgram
    from ..workers.devices.discovery import VisibleDevices

__all__ = ["Plan", "duration", "make_plan", "with_epoch_warning"]

MIN_TOTAL_TRIALS = 24
"""Number of full trials, over all workers, that must fit into the budget: three of the baseline, the rest to select
from."""

CLOCK_PHRASES = {
    "reference_seconds": "of training, at the baseline's speed",
    "cpu_seconds": "of the worker's CPU time",
    "wall_seconds": "of wall clock",
}
"""Description of each unit of a trial's budget."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that is ready to start.

    Attributes:
        preset: name or path of the configuration.
        hardware: devices and the workers on them.
        config: run configuration.
        budget_seconds: wall-clock budget of the search.
        notes: messages for the user.
        initial_programs: programs that the population starts from; if empty, the baseline alone.
    """

    preset: str
    hardware: Hardware
    config: RunConfig
    budget_seconds: float
    notes: tuple[str, ...] = ()
    initial_programs: tuple[InitialProgram, ...] = ()

    @property
    def platform(self) -> str:
        """`cpu`, `gpu` or `tpu`."""
        return self.hardware.devices.platform

    @property
    def workers(self) -> int:
        """Number of trials that run in parallel."""
        return self.hardware.placement.workers

    @property
    def larger(self) -> RunConfig | None:
        """Settings of the larger size (`search.scale_up`) for retraining at the end of the run; None without one."""
        return larger_scale(self.config)

    @property
    def end(self) -> PlannedEnd:
        """Planned end of the run: its stages of retraining."""
        return PlannedEnd.of(self.config, self.larger, self.budget_seconds, self.platform, self.workers)

    @property
    def candidates_expected(self) -> int | None:
        """Estimated number of candidates; None if the time of a training is not known."""
        return expected_candidates(self.config, self.platform, self.workers, self.end.search_seconds)

    @property
    def hurdles(self) -> tuple[float, ...]:
        """Points at which a trial may stop, in the unit of its budget."""
        trial = self.config.trial
        if self.config.search.strategy in GUIDED_STRATEGIES:
            return tuple(round(trial.budget * POINTS[place]) for place in STOPS)
        return hurdle_positions(trial.budget, trial.hurdles)

    def to_dict(self, seed: int, run_dir: Path | None) -> dict[str, Any]:
        """Return the JSON values that `--dry-run --json` prints."""
        trial = self.config.trial
        return {
            "preset": self.preset,
            "platform": self.platform,
            "budget_seconds": self.budget_seconds,
            "workers": self.workers,
            **self.hardware.to_dict(),
            "trial_budget": trial.budget,
            "trial_unit": trial.unit,
            "hurdles": self.hurdles,
            "candidates_expected": self.candidates_expected,
            **self.end.to_dict(),
            "seed": seed,
            "initial_programs": [initial_program.origin for initial_program in self.initial_programs],
            "run_dir": str(run_dir or RUNS / f"<time>-seed{seed}"),
            "notes": list(self.notes),
            "config": asdict(self.config),
        }

    def lines(self, seed: int, run_dir: Path | None) -> list[str]:
        """Return the lines that `--dry-run` prints."""
        trial, config = self.config.trial, self.config
        hurdles = self.hurdles
        if trial.unit == "steps":
            budget, places = f"{trial.budget_steps} steps", ", ".join(f"{round(at, 1):g}" for at in hurdles)
        else:
            clock = CLOCK_PHRASES[trial.unit]
            budget, places = f"{format_duration(trial.budget)} {clock}", ", ".join(map(format_duration, hurdles))
        facts = {
            "preset": self.preset,
            "budget": f"{format_duration(self.budget_seconds)} of wall clock",
            "workers": self._format_workers(),
            **self.hardware.facts(),
            "strategy": config.search.strategy,
            "trial budget": budget,
            "hurdles": f"at {places}" if hurdles else "none",
            "candidates": self._format_candidates(),
            **self.end.facts(),
            "data": config.data.source,
            "baseline": f"{config.search.baseline}, {config.model.heads} heads",
            "initial programs": ", ".join(initial_program.origin for initial_program in self.initial_programs),
            "random seed": str(seed),
            "run": str(run_dir or RUNS / f"<time>-seed{seed}"),
        }
        return [f"{name:<13} {value}" for name, value in facts.items() if value]

    def _format_candidates(self) -> str:
        expected, basis = self.candidates_expected, TrainingShares.of(self.config).basis
        if expected is None:
            return f"not estimated: the time of a step on {self.platform} is not known"
        two_digits = float(f"{expected:.2g}")
        return f"about {two_digits:,.0f}{basis and ', '}{basis}"

    def _format_workers(self) -> str:
        share = self.hardware.placement.resources
        each = f", each on {share.devices} devices" if share.devices > 1 else ""
        each = f", {share.per_device} a device" if share.per_device > 1 else each
        return f"{self.workers} on {self.platform}{each} ({self.config.workers.executor})"


def make_plan(
    *,
    budget: str,
    trial_budget: str | None = None,
    config: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: str | None = None,
    accel: str | None = None,
    address: str | None = None,
    fake: VisibleDevices | None = None,
    strategy: str | None = None,
    init: Sequence[str] = (),
) -> Plan:
    """Return the plan for the options of the command. Arguments are the options of the same names, except `fake`.

    Workers are placed on the devices of the cluster at `address`, else of this machine, or on the `fake` devices.

    Raises:
        UsageError: an option or setting is invalid, settings contradict each other, or the devices are too few or too
            small.
    """
    budget_seconds = duration("--budget", budget)
    check_address(address, executor or "ray")
    devices = None if config is not None and accel is None else choose_devices(accel or "auto", address, fake)
    preset = config if config is not None else DEFAULT_PRESETS[devices.platform if devices else "cpu"]
    options = {
        "data.source": data,
        "workers.count": workers,
        "workers.per_device": workers_per_device,
        "workers.executor": executor,
        "workers.accel": devices.platform if devices and accel is not None else None,
        "search.strategy": strategy,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    settings = load(preset, [*overrides, *given])
    if trial_budget is not None:
        settings = replace(settings, trial=with_trial_budget(settings.trial, trial_budget, preset))
    _refuse_unused_budget(overrides, settings)
    check_address(address, settings.workers.executor)
    check_installed(settings.workers.executor, address)
    devices = devices or choose_devices(settings.workers.accel, address, fake, preset)
    # Contradictions depend on the platform that `auto` resolves to.
    found = replace(settings, workers=replace(settings.workers, accel=devices.platform))
    refuse_contradictions(found, preset)
    settings.model.library_program(settings.search.baseline)
    larger_scale(settings)
    check_source(settings.data.source)
    hardware = hardware_for(found, devices, on_cluster=address is not None, simulated=devices is fake)
    plan = _with_initial_programs(Plan(preset, hardware, settings, budget_seconds, hardware.notes()), init)
    return plan if settings.trial.unit == "steps" else _fitted(plan, asked=trial_budget is not None)


def with_epoch_warning(plan: Plan) -> Plan:
    """Add a note if a trial may read the training text too often.

    There is no note without a prepared text, because its tokens are not counted yet.

    Raises:
        UsageError: the text cannot be read.
    """
    config = plan.config
    dataset = find_prepared_dataset(config.data, config.model.vocabulary)
    if dataset is None:
        return plan
    baseline = config.model.library_program(config.search.baseline)
    note = epoch_warning(config, baseline, len(dataset.train), plan.hardware.devices.platform)
    return replace(plan, notes=(*plan.notes, note)) if note else plan


def duration(option: str, text: str) -> float:
    """Read a duration; errors name the option."""
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def _refuse_unused_budget(overrides: Sequence[str], settings: RunConfig) -> None:
    """Refuse `--set` of a trial budget that `trial.unit` does not use. Presets may set both budgets."""
    unit = settings.trial.unit
    used, unused = ("steps", "seconds") if unit == "steps" else ("seconds", "steps")
    if any((given.section, given.key) == ("trial", f"budget_{unused}") for given in map(parse_override, overrides)):
        raise UsageError(
            f"trial.budget_{unused} (from --set) has no effect while trial.unit = {unit}: "
            f"set trial.budget_{used}, or another trial.unit"
        )


def _with_initial_programs(plan: Plan, init: Sequence[str]) -> Plan:
    """Add the initial programs. They are checked here, before the search creates a directory."""
    if not init:
        return plan
    from ..search.sessions.load_initial_programs import load_initial_programs

    initial_programs, notes = load_initial_programs(init, plan.config)
    return replace(plan, initial_programs=initial_programs, notes=(*plan.notes, *notes))


def _fitted(plan: Plan, asked: bool) -> Plan:
    """Shorten the trial budget until enough trials fit; a budget that the user gave is kept if one trial fits."""
    least = max(MIN_TRIALS_PER_WORKER, -(-MIN_TOTAL_TRIALS // plan.workers))
    trial, longest = plan.config.trial, plan.budget_seconds / least
    if trial.budget_seconds <= longest:
        return plan
    wanted, whole = format_duration(trial.budget_seconds), format_duration(plan.budget_seconds)
    if asked and trial.budget_seconds < plan.budget_seconds:
        fit = plan.budget_seconds / trial.budget_seconds
        note = f"only {fit:.1f} trials of {wanted} per worker fit into --budget {whole}: expect little improvement"
        return replace(plan, notes=(*plan.notes, note))
    note = (
        f"the trial budget is {format_duration(longest)} instead of {wanted}, "
        f"so that {least} trials per worker fit into --budget {whole}"
    )
    config = replace(plan.config, trial=replace(trial, budget_seconds=longest))
    return replace(plan, config=config, notes=(*plan.notes, note))
