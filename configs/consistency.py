"""What must hold between settings, where each by itself is within its bounds.

A setting that would be silently ignored is a contradiction too: whoever wrote it meant something by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..primitives.errors import UsageError
from ..search.config import RunConfig

__all__ = ["contradictions", "refuse_contradictions"]


def refuse_contradictions(config: RunConfig, where: str) -> None:
    """Raise UsageError for settings at odds with each other; `where` they stand goes into its sentence."""
    for sentence in contradictions(config):
        raise UsageError(f"{sentence} (in {where})")


def contradictions(config: RunConfig) -> Iterator[str]:
    """One sentence for each contradiction between settings, the plainest first."""
    search, trial, optimizer, workers = config.search, config.trial, config.optimizer, config.workers
    hurdle_parts = 2 ** (trial.hurdles + 1) - 1
    if search.tournament > search.population:
        yield (
            f"search.tournament = {search.tournament} must be at most search.population = {search.population}, "
            "from which its members are drawn"
        )
    if search.hurdle_minimum > search.hurdle_window:
        yield (
            f"search.hurdle_minimum = {search.hurdle_minimum} must be at most search.hurdle_window = "
            f"{search.hurdle_window}, or no hurdle ever stops a trial"
        )
    if trial.unit == "steps" and trial.hurdles and trial.budget_steps < hurdle_parts:
        yield (
            f"trial.budget_steps = {trial.budget_steps} is too short for trial.hurdles = {trial.hurdles}: "
            f"use at least {hurdle_parts} steps, or fewer hurdles"
        )
    if trial.batch_problem:
        yield trial.batch_problem
    if trial.unit == "cpu_seconds" and workers.accel in ("gpu", "tpu"):
        yield (
            f"trial.unit = cpu_seconds does not measure the work of workers.accel = {workers.accel}: "
            f"set trial.unit=wall_seconds, or use the preset {workers.accel}"
        )
    if workers.per_device > 1 and workers.executor == "inline":
        yield (
            f"workers.per_device = {workers.per_device} needs workers.executor = ray: inline trains one candidate at a "
            "time in the process of the search"
        )
    if workers.per_device > 1 and workers.accel == "cpu":
        yield (
            f"workers.per_device = {workers.per_device} has no effect on workers.accel = cpu, whose cores workers do "
            "not share: set workers.count"
        )
    if workers.per_device > 1 and workers.accel == "tpu":
        yield (
            f"workers.per_device = {workers.per_device} cannot be had of workers.accel = tpu: "
            "a TPU chip belongs to the one process that opens it; leave it at 1"
        )
    if workers.per_device > 1 and trial.devices > 1:
        yield (
            f"workers.per_device = {workers.per_device} shares a device that trial.devices = {trial.devices} joins "
            "with others: set one of the two to 1"
        )
    if workers.executor == "inline" and workers.count > 1:
        yield (
            f"workers.count = {workers.count} needs workers.executor = ray: inline trains one candidate at a time "
            "in the process of the search"
        )
    if optimizer.name == "adafactor" and optimizer.weight_decay:
        yield (
            f"optimizer.weight_decay = {optimizer.weight_decay} has no effect on optimizer.name = adafactor: "
            "set it to 0, or use adamw"
        )
