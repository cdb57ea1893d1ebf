"""Held-out text of a trained model, in two parts: one for fits or choices, the other for the reported results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int32

from ...primitives.errors import UsageError
from ...workers.config import DataConfig
from ...workers.data.batches import validation_batches
from ...workers.data.dataset import Dataset
from ...workers.data.user_tokenizers import PREFIX
from ..runs.run_settings import find_same_text

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights

__all__ = ["Windows", "find_text", "held_out_parts", "text_settings"]

Windows = Int32[np.ndarray, "batches batch length+1"]

BATCH_TOKENS = 4096
"""Predicted tokens in a batch, unless a window alone has more."""

STRIPES = (20, 10)
"""Numbers of stripes to cut the text into. The first number with more tokens in each stripe than a window
predicts is used, counting at most the tokens to use. If neither has, the first part is a single stripe."""


def text_settings(
    training: Mapping[str, Any], vocabulary: int, folder: Path, source: str | None = None
) -> tuple[DataConfig, int, str | None]:
    """Return how to prepare the text: its settings, its number of token ids, and its hash (None: any text is accepted).

    Args:
        training: record of the training in the folder of the weights.
        vocabulary: number of token ids that the model embeds.
        folder: folder of the weights, whose tokenizer reads the text of `source`.
        source: text to use, as `--data` names it; None: the text of the training.

    Raises:
        UsageError: the record does not name the text.
    """
    tokenizer = f"{PREFIX}{(folder / 'tokenizer.json').resolve()}"
    vocabulary = training.get("vocabulary", vocabulary)  # without the special tokens of an objective
    if source is not None:
        return DataConfig(source, tokenizer=tokenizer), vocabulary, None
    recorded = training.get("settings", {}).get("data")
    data = DataConfig(training.get("data", "python-stdlib")) if recorded is None else DataConfig(**recorded)
    data = replace(data, tokenizer=tokenizer) if data.tokenizer else data
    expected = training.get("dataset_hash")
    if expected is None:
        raise UsageError(f"the weights in {folder} do not say which text they were trained on: name it with --data")
    return data, vocabulary, expected


def find_text(
    weights: Weights, folder: Path, source: str | None = None, tell: Callable[[str], None] = lambda line: None
) -> Dataset:
    """Return the text that a model was trained on, or another text encoded by the model's tokenizer.

    The training text is found in the cache by its hash. Otherwise it is prepared again with the recorded settings.

    Args:
        weights: trained model.
        folder: folder of the weights.
        source: text to use, as `--data` names it; None: the text of the training.
        tell: called with messages.

    Raises:
        UsageError: the text is not in the cache and cannot be prepared again, or cannot be read.
    """
    data, vocabulary, expected = text_settings(weights.training, weights.model.vocabulary, folder, source)
    try:
        return find_same_text(data, vocabulary, expected, None, tell)
    except UsageError as error:
        if expected is None:
            raise
        raise UsageError(
            f"the text that {folder} was trained on is not in the cache of this machine, and cannot be prepared again "
            f"({error}); name it with --data, such as --data {data.source}"
        ) from error


def held_out_parts(dataset: Dataset, length: int, tokens: int, share: float) -> tuple[Windows, Windows]:
    """Return windows of two parts of the validation text, which do not overlap.

    The text is cut into stripes, and each stripe belongs to one of the parts. So both parts are spread over the whole
    text, and few documents are in both.

    Args:
        dataset: text.
        length: predicted tokens in a window.
        tokens: approximate number of predicted tokens in both parts together; fewer if the text is shorter.
        share: share of the first part, which must be one divided by a whole number.

    Raises:
        UsageError: the text is too short for one window in each part.
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
    # Batches of equal size, so that few windows of the first part are left over.
    batch = max(len(first) // math.ceil(len(first) * length / BATCH_TOKENS), 1)
    return _batches(first, batch), _batches(second, batch)


def _batches(windows: Int32[np.ndarray, "windows length+1"], batch: int) -> Windows:
    """Return batches of one size; windows that do not fill a batch are left out."""
    count = len(windows) // batch
    return windows[: count * batch].reshape(count, batch, -1)
