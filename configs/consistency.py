"""Checks of settings against each other. Each setting is already known to be within its own bounds.

A setting that would have no effect is also refused, because the user expects an effect.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..models.parameter_range import parameters_at
from ..primitives import InvalidProgramError, UsageError, build_graph
from ..search.config import RunConfig
from ..search.evolution.vocabulary import read_vocabulary

__all__ = ["contradictions", "refuse_contradictions"]


def refuse_contradictions(config: RunConfig, where: str) -> None:
    """Raise a UsageError for the first contradiction; the message names `where`, the source of the settings."""
    for sentence in contradictions(config):
        raise UsageError(f"{sentence} (in {where})")


def contradictions(config: RunConfig) -> Iterator[str]:
    """Yield one sentence for each contradiction between settings."""
    search, trial, optimizer, workers = config.search, config.trial, config.optimizer, config.workers
    yield from _range_contradictions(config)
    try:
        read_vocabulary(search.vocabulary)
    except UsageError as error:
        yield str(error)
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
    if search.strategy.startswith("guided") and trial.unit != "steps":
        yield (
            f"search.strategy = {search.strategy} needs a budget in steps, not trial.unit = {trial.unit}: "
            "set trial.unit=steps, trial.budget_steps=1000 and trial.price=true"
        )
    if trial.price and trial.unit != "steps":
        yield f"trial.price has no effect with trial.unit = {trial.unit}: set trial.unit=steps, or trial.price=false"
    if trial.batch_problem:
        yield trial.batch_problem
    if trial.unit == "cpu_seconds" and workers.accel in ("gpu", "tpu"):
        yield (
            f"trial.unit = cpu_seconds does not measure the work of workers.accel = {workers.accel}: "
            f"set trial.unit=wall_seconds, or use the preset {workers.accel}"
        )
    for name, value in (("per_device", workers.per_device), ("count", workers.count)):
        if value > 1 and workers.executor == "inline":
            yield (
                f"workers.{name} = {value} needs workers.executor = ray: inline trains one candidate at a time "
                "in the process of the search"
            )
    if workers.per_device > 1 and workers.accel == "cpu":
        yield (
            f"workers.per_device = {workers.per_device} has no effect with workers.accel = cpu, where each worker has "
            "its own cores: set workers.count"
        )
    if workers.per_device > 1 and workers.accel == "tpu":
        yield (
            f"workers.per_device = {workers.per_device} does not work with workers.accel = tpu: "
            "one process owns a TPU chip; leave it at 1"
        )
    if workers.per_device > 1 and trial.devices > 1:
        yield (
            f"workers.per_device = {workers.per_device} cannot be combined with trial.devices = {trial.devices}: "
            "set one of the two to 1"
        )
    if optimizer.name == "adafactor" and optimizer.weight_decay:
        yield (
            f"optimizer.weight_decay = {optimizer.weight_decay} has no effect with optimizer.name = adafactor: "
            "set it to 0, or use adamw"
        )


def _range_contradictions(config: RunConfig) -> Iterator[str]:
    model, name = config.model, config.search.baseline
    if not model.parameter_range:
        return
    shown = f"model.parameter_range = {list(model.parameter_range)}"
    if len(model.parameter_range) != 2 or model.parameter_range[0] > model.parameter_range[1]:
        yield f"{shown} must be the smallest and the largest number of parameters, or [] to resize no candidate"
        return
    try:
        baseline = parameters_at(build_graph(model.library_program(name), length_dependent=True), model, model.unit)
    except (UsageError, InvalidProgramError):
        return  # reported where the baseline is used
    if not model.parameter_range[0] <= baseline <= model.parameter_range[1]:
        yield (
            f"{shown} must hold the baseline {name}, which has {baseline:,} parameters at model.unit = {model.unit}: "
            "set another range, or [] to resize no candidate"
        )
