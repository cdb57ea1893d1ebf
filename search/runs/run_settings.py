"""Configuration of a stored run, with the values that a study overrides, and its dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from ...primitives import UsageError
from ...workers.data.dataset import Dataset, prepare_dataset
from ..config import RunConfig
from .store import Store

__all__ = ["ExecutorName", "load_allowance_seconds", "load_config", "prepare_same_dataset", "tell_units"]

ExecutorName = Literal["ray", "inline"]


def load_config(
    store: Store,
    trial_seconds: float | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: ExecutorName | None = None,
) -> RunConfig:
    """Return the run's configuration with the given values; None keeps the run's value.

    Args:
        store: store of the run.
        trial_seconds: budget of one training.
        workers: total number of workers.
        workers_per_device: number of workers that share a device.
        executor: kind of executor; `inline` trains one candidate at a time unless `workers` is given.

    Raises:
        UsageError: `trial_seconds` is given and the run counts steps.
    """
    config = RunConfig.from_dict(store.manifest["config"])
    given = {"executor": executor, "count": workers, "per_device": workers_per_device}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if executor == "inline":
        changes = {"count": 1, "per_device": 1, **changes}
    config = replace(config, workers=replace(config.workers, **changes))
    if trial_seconds is None:
        return config
    if config.trial.unit == "steps":
        raise UsageError(f"run {store.run.path} counts steps: --trial-budget does not apply to it")
    return replace(config, trial=replace(config.trial, budget_seconds=trial_seconds))


def load_allowance_seconds(store: Store) -> float | None:
    """Return the baseline's step time that the search measured, or None if it measured none."""
    found = [event.payload["allowance_seconds"] for event in store.events() if event.kind == "calibrated"]
    return found[-1] if found else None


def prepare_same_dataset(config: RunConfig, dataset_hash: str | None, tell: Callable[[str], None]) -> Dataset:
    """Prepare the dataset of a stored run again, and check that its text is the same.

    Args:
        config: configuration of the run.
        dataset_hash: hash of the run's dataset; None is not checked.
        tell: callback that receives messages about slow preparations.

    Raises:
        UsageError: the text cannot be read, or has changed.
    """
    dataset = Dataset.open(prepare_dataset(config.data, config.model.vocabulary, progress=tell), verify=False)
    if dataset_hash not in (None, dataset.dataset_hash):
        raise UsageError(
            f"the text of {config.data.source} changed since the search began "
            f"(hash {dataset.dataset_hash[:12]}, was {dataset_hash[:12]}): restore it, or start a new run"
        )
    tell_units(dataset, tell)
    return dataset


def tell_units(dataset: Dataset, tell: Callable[[str], None]) -> None:
    """Say in which unit losses are if the token ids have no text."""
    if not dataset.has_text:
        tell(
            "note: these token ids have no text, so losses and differences are in nats per token only, also where a "
            "study of several programs writes bits/byte"
        )
