"""What a search will do, from what the user typed: the preset, the settings laid over it, and a trial budget that fits.

Nothing is made or started here; `--dry-run` prints a plan and stops.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..primitives.errors import UsageError
from ..search.config import RunConfig
from ..search.hurdles import hurdle_positions, mean_cost
from ..workers.accelerators import resolve_platform
from .durations import format_duration, parse_duration
from .load import load

__all__ = ["LEAST_TRIALS", "OVERHEAD_SECONDS", "PRESETS", "Plan", "make_plan"]

PRESETS = {"cpu": "laptop", "gpu": "gpu", "tpu": "tpu"}
"""The preset of each platform, where the user names none."""

LEAST_TRIALS = 8
"""Full trials that must fit into a worker's share of the budget; else there is nothing to select from."""

OVERHEAD_SECONDS = 5.0
"""Compilation, probes and evaluation of a candidate, roughly, for the estimate of how many there will be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that is ready to start.

    Attributes:
        preset: name or path of the configuration.
        platform: `cpu`, `gpu` or `tpu`.
        config: every setting.
        budget_seconds: wall clock of the search.
        notes: sentences the user should read.
    """

    preset: str
    platform: str
    config: RunConfig
    budget_seconds: float
    notes: tuple[str, ...] = ()

    def candidates_expected(self, workers: int) -> int | None:
        """About how many candidates will be trained on so many workers; None if the budget counts steps."""
        trial = self.config.trial
        if trial.unit == "steps":
            return None
        each = mean_cost(trial.budget, trial.hurdles) + OVERHEAD_SECONDS
        return max(1, int(workers * self.budget_seconds / each))

    def to_dict(self, workers: int) -> dict[str, Any]:
        """Plain JSON values: what `--dry-run --json` prints."""
        trial = self.config.trial
        return {
            "preset": self.preset,
            "platform": self.platform,
            "budget_seconds": self.budget_seconds,
            "workers": workers,
            "trial_budget": trial.budget,
            "trial_unit": trial.unit,
            "hurdles": hurdle_positions(trial.budget, trial.hurdles),
            "candidates_expected": self.candidates_expected(workers),
            "notes": list(self.notes),
            "config": asdict(self.config),
        }


def make_plan(
    *,
    budget: str,
    trial_budget: str | None = None,
    config: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    workers: int | None = None,
    executor: str | None = None,
    accel: str | None = None,
) -> Plan:
    """Resolve the options of the command; each argument is the option of its name, `config` a preset or a file.

    Raises:
        UsageError: a duration, preset, setting or accelerator that is none, or settings at odds with each other.
    """
    budget_seconds = _duration("--budget", budget)
    trial_seconds = None if trial_budget is None else _duration("--trial-budget", trial_budget)
    platform = None if config is not None and accel is None else resolve_platform(accel or "auto")
    preset = config if config is not None else PRESETS[platform or "cpu"]
    options = {
        "trial.budget_seconds": trial_seconds,
        "data.source": data,
        "workers.count": workers,
        "workers.executor": executor,
        "workers.accel": platform if accel is not None else None,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    settings = load(preset, [*overrides, *given])
    if trial_seconds is not None and settings.trial.unit == "steps":
        raise UsageError(
            f"--trial-budget {trial_budget} is a time, but trial.unit of {preset} counts steps: "
            "write --set trial.budget_steps=N, or add --set trial.unit=wall_seconds."
        )
    platform = platform or resolve_platform(settings.workers.accel)
    plan = Plan(preset, platform, settings, budget_seconds)
    return plan if settings.trial.unit == "steps" else _fitted(plan, asked=trial_seconds is not None)


def _duration(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def _fitted(plan: Plan, asked: bool) -> Plan:
    """Shrink the trial budget until `LEAST_TRIALS` fit; one that was asked for stays if it fits once."""
    trial, longest = plan.config.trial, plan.budget_seconds / LEAST_TRIALS
    if trial.budget_seconds <= longest:
        return plan
    wanted, whole = format_duration(trial.budget_seconds), format_duration(plan.budget_seconds)
    if asked and trial.budget_seconds < plan.budget_seconds:
        note = f"--budget {whole} holds only {plan.budget_seconds / trial.budget_seconds:.1f} trials of {wanted} a worker: expect little."
        return replace(plan, notes=(*plan.notes, note))
    note = f"the trial budget is {format_duration(longest)} instead of {wanted}, so that {LEAST_TRIALS} trials a worker fit into --budget {whole}."
    config = replace(plan.config, trial=replace(trial, budget_seconds=longest))
    return replace(plan, config=config, notes=(*plan.notes, note))
