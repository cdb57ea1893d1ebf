"""Held-out text of a trained model, in two parts: one to fit or to choose on, another to report on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from ...primitives.errors import UsageError
from ...workers.config import DataConfig
from ...workers.data.batches import validation_batches
from ...workers.data.dataset import Dataset, prepare_dataset
from ...workers.data.dataset_transfer import find_dataset_by_hash
from ...workers.data.own_tokenizers import PREFIX
from ..runs.run_directory import is_run
from ..runs.run_settings import load_config, prepare_same_dataset
from ..runs.store import Store

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights

__all__ = ["Windows", "find_text", "held_out_parts"]

Windows = Int32[np.ndarray, "batches batch length+1"]

BATCH_TOKENS = 4096
"""Tokens of a batch, if a window is not longer."""

STRIPES = (20, 10)
"""Numbers of stripes that the text is cut into, if they are long enough; otherwise one for the first part."""


def find_text(
    weights: Weights, folder: Path, source: str | None = None, tell: Callable[[str], None] = lambda line: None
) -> Dataset:
    """Return the text that a model was trained on, or another one with the model's tokenizer.

    The text is found by its hash in the cache, or prepared again as the run that holds the folder says.

    Args:
        weights: trained model.
        folder: folder of the weights.
        source: another text, as `--data` names it; None: that of the training.
        tell: called with messages.

    Raises:
        UsageError: the text is not in the cache and cannot be prepared again, or cannot be read.
    """
    if source is not None:
        data = DataConfig(source, tokenizer=f"{PREFIX}{(folder / 'tokenizer.json').resolve()}")
        return Dataset.open(prepare_dataset(data, weights.model.vocabulary, progress=tell), verify=False)
    expected = weights.training.get("dataset_hash")
    found = None if expected is None else find_dataset_by_hash(expected)
    if found is not None:
        return found
    run = folder.resolve().parent.parent
    if is_run(str(run)):
        with Store.open(run, read_only=True) as store:
            return prepare_same_dataset(load_config(store), {"dataset_hash": expected}, tell)
    raise UsageError(
        f"the text that {folder} was trained on is not in the cache of this machine; name it with --data, such as "
        f"--data {weights.training.get('data', 'python-stdlib')}"
    )


def held_out_parts(dataset: Dataset, length: int, tokens: int, share: float) -> tuple[Windows, Windows]:
    """Return windows of two parts of the validation text, which do not overlap.

    The text is cut into stripes that belong to one part or the other, so that both parts are spread over the whole of
    it, and few documents lie in both.

    Args:
        dataset: text.
        length: predicted tokens in a window.
        tokens: predicted tokens in all windows together, about; fewer if the text is shorter.
        share: share of the first part, one divided by a whole number.

    Raises:
        UsageError: the text is too short for a window in each part.
    """
    text, every = np.asarray(dataset.validation), round(1 / share)
    count = next((count for count in STRIPES if min(len(text), tokens) // count > length), every)
    size = len(text) // count
    if size <= length:
        raise UsageError(
            f"the validation text has {len(text):,} tokens, too few for {every} parts with a window of {length + 1}; "
            "name a longer text with --data"
        )
    windows = min(max(round(tokens / count / length), 1), size // (length + 1))
    stripes = [
        validation_batches(text[start : start + size], windows, length, 1)[0]
        for start in range(0, count * size, size)[:count]
    ]
    first = np.concatenate(stripes[::every])
    second = np.concatenate([stripe for number, stripe in enumerate(stripes) if number % every])
    batch = max(
        len(first) // math.ceil(len(first) * length / BATCH_TOKENS), 1
    )  # few windows of the first part are left
    return _batches(first, batch), _batches(second, batch)


def _batches(windows: Int32[np.ndarray, "windows length+1"], batch: int) -> Windows:
    """Return batches of one size, without the windows that are left."""
    count = len(windows) // batch
    return windows[: count * batch].reshape(count, batch, -1)
