"""Held-out text of a trained model, in two parts: one to fit or to choose on, another to report on."""

from __future__ import annotations

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
    """Return windows of the beginning and of the rest of the validation text, which do not overlap.

    Args:
        dataset: text.
        length: predicted tokens in a window.
        tokens: predicted tokens in all windows together; fewer if the text is shorter.
        share: share of the text, and of the tokens, in the first part.

    Raises:
        UsageError: a part is shorter than one window.
    """
    cut = int(share * len(dataset.validation))
    parts = dataset.validation[:cut], dataset.validation[cut:]
    counts = [
        min(max(round(own * tokens / length), 1), len(part) // (length + 1))
        for part, own in zip(parts, (share, 1.0 - share), strict=True)
    ]
    if not all(counts):
        raise UsageError(
            f"the validation text has {len(dataset.validation):,} tokens, too few for two parts with a window of "
            f"{length + 1}; give more text with --data"
        )
    batch = min(*counts, max(1, BATCH_TOKENS // length))
    first, second = (
        validation_batches(part, batch, length, count // batch) for part, count in zip(parts, counts, strict=True)
    )
    return first, second
