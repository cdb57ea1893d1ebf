"""Configuration of a stored run, with values that a study overrides, and the run's dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from ...primitives import UsageError
from ...workers.config import DataConfig
from ...workers.data.dataset import Dataset, prepare_dataset
from ...workers.data.dataset_transfer import find_dataset_by_hash
from ..config import RunConfig, with_trial_budget
from .store import Store

__all__ = [
    "ExecutorName",
    "check_same_text",
    "find_same_text",
    "load_allowance_seconds",
    "load_config",
    "prepare_same_dataset",
    "tell_limits",
]

ExecutorName = Literal["ray", "inline"]


def load_config(
    store: Store,
    trial_budget: str | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: ExecutorName | None = None,
) -> RunConfig:
    """Return the run's configuration with the given values; None keeps the run's value.

    Args:
        store: store of the run.
        trial_budget: budget of one training, a duration such as `5m` or, if the run counts steps, `5000steps`.
        workers: total number of workers.
        workers_per_device: number of workers that share a device.
        executor: kind of executor; `inline` trains one candidate at a time unless `workers` is given.

    Raises:
        UsageError: the budget is a time and the run counts steps, or the other way round.
    """
    config = RunConfig.from_dict(store.manifest["config"])
    given = {"executor": executor, "count": workers, "per_device": workers_per_device}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if executor == "inline":
        changes = {"count": 1, "per_device": 1, **changes}
    config = replace(config, workers=replace(config.workers, **changes))
    if trial_budget is None:
        return config
    return replace(config, trial=with_trial_budget(config.trial, trial_budget, f"run {store.run.path}"))


def load_allowance_seconds(store: Store) -> float | None:
    """Return the baseline's step time that the search measured, or None if it measured none."""
    found = [event.payload["allowance_seconds"] for event in store.events() if event.kind == "calibrated"]
    return found[-1] if found else None


def prepare_same_dataset(config: RunConfig, recorded: Mapping[str, Any] | None, tell: Callable[[str], None]) -> Dataset:
    """Find the dataset of a stored run by its hash, or prepare it again and check that its text is the same.

    Args:
        config: configuration of the run.
        recorded: manifest of the run; the dataset must have its `dataset_hash`. None accepts every dataset.
        tell: callback that receives messages about slow preparations.

    Raises:
        UsageError: the dataset is not in the cache, and the text cannot be read or has changed.
    """
    recorded, source = recorded or {}, config.data.source
    expected, place = recorded.get("dataset_hash"), recorded.get("dataset")
    try:
        dataset = find_same_text(config.data, config.model.vocabulary, expected, place, tell)
    except UsageError as error:
        if expected is None or not source.startswith(("text:", "tokens:")):
            raise
        raise UsageError(
            f"{error}; if that text is in another place, run `primer-search data prepare {source.partition(':')[0]}:"
            "PATH --run RUN`"
        ) from error
    tell_limits(dataset, config, tell)
    return dataset


def find_same_text(
    data: DataConfig, vocabulary: int, expected: str | None, place: str | None, tell: Callable[[str], None]
) -> Dataset:
    """Find a dataset by its hash, or prepare it again and check that its text is the same.

    Args:
        data: source, and settings of the tokenizer.
        vocabulary: largest number of token ids.
        expected: hash of the dataset; None accepts every dataset.
        place: folder where the dataset was; None: only the cache is searched.
        tell: callback that receives messages about slow preparations.

    Raises:
        UsageError: the dataset is not in the cache, and the text cannot be read or has changed.
    """
    dataset = None if expected is None else find_dataset_by_hash(expected, place)
    if dataset is None:
        dataset = Dataset.open(prepare_dataset(data, vocabulary, progress=tell), verify=False)
        if expected is not None:
            check_same_text(dataset, data.source, expected)
    return dataset


def check_same_text(dataset: Dataset, source: str, expected: str) -> None:
    """Check that a dataset is the one that a run or a model was trained on.

    Raises:
        UsageError: its hash is not the expected one.
    """
    if dataset.dataset_hash != expected:
        raise UsageError(
            f"data.source {source} is not the text that was trained on (hash {dataset.dataset_hash[:12]}, "
            f"was {expected[:12]}): restore that text"
        )


def tell_limits(dataset: Dataset, config: RunConfig, tell: Callable[[str], None]) -> None:
    """Report if the validation text is too short for one evaluation, or if bits per byte are unknown."""
    evaluated = config.trial.evaluation_batches * config.trial.batch * config.model.length
    if len(dataset.validation) < evaluated:
        tell(
            f"warning: the validation text has {len(dataset.validation):,} tokens, but an evaluation reads "
            f"{evaluated:,}, so it reads them more than once and its losses are less certain: give more text"
        )
    if not dataset.has_text:
        tell("note: these token ids have no text, so losses and differences are in nats per token")
