"""Configuration of a stored run, with the values that a study overrides."""

from __future__ import annotations

from dataclasses import replace

from ...primitives import UsageError
from ..config import RunConfig
from .store import Store

__all__ = ["load_allowance_seconds", "load_config"]


def load_config(
    store: Store,
    trial_seconds: float | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
) -> RunConfig:
    """Return the run's configuration with the given values in place of its own; None keeps the run's value.

    Args:
        store: store of the run.
        trial_seconds: budget of one training.
        workers: total number of workers.
        workers_per_device: number of workers that share a device.

    Raises:
        UsageError: `trial_seconds` is given and the run counts steps.
    """
    config = RunConfig.from_dict(store.manifest["config"])
    if workers is not None:
        config = replace(config, workers=replace(config.workers, count=workers))
    if workers_per_device is not None:
        config = replace(config, workers=replace(config.workers, per_device=workers_per_device))
    if trial_seconds is None:
        return config
    if config.trial.unit == "steps":
        raise UsageError(f"run {store.run.path} counts steps: --trial-budget does not apply to it")
    return replace(config, trial=replace(config.trial, budget_seconds=trial_seconds))


def load_allowance_seconds(store: Store) -> float | None:
    """Return the baseline's step time that the search measured, or None if it measured none."""
    found = [event.payload["allowance_seconds"] for event in store.events() if event.kind == "calibrated"]
    return found[-1] if found else None
