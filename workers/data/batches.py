"""Batches of token windows: in a reproducible random order for training, and a fixed set for validation.

A training batch depends on the seed and the step alone. An interrupted trial therefore continues with the same batches,
and two candidates with the same seed see the same text. A window holds `length + 1` tokens: the inputs, and the targets
shifted by one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Integer

from ...primitives.errors import UsageError

__all__ = ["TrainBatches", "validation_batches"]

Tokens = Integer[np.ndarray, " tokens"]


class TrainBatches:
    """Batches of a token stream, drawn without replacement within an epoch.

    An epoch starts at a random offset, cuts the stream into windows of `length` tokens, and visits them in random
    order. Every token is a target once in an epoch, except fewer than `2 * length` tokens at the ends of the stream.
    """

    def __init__(self, tokens: Tokens, batch: int, length: int, seed: int):
        """Make batches.

        Args:
            tokens: training split, which may be a memory map.
            batch: sequences in a batch.
            length: predicted tokens in a sequence.
            seed: random seed, not negative.

        Raises:
            UsageError: the stream is shorter than one window.
        """
        _check_long_enough(tokens, length, "training")
        # A plain view of the memory map, because indexing np.memmap itself takes several times as long.
        self._tokens = np.asarray(tokens)
        self._batch = batch
        self._length = length
        self._seed = seed
        self._window = np.arange(length + 1)
        self.windows_per_epoch = max(1, (len(tokens) - length) // length)
        self._offsets = min(length, len(tokens) - self.windows_per_epoch * length)
        self._epoch_starts: dict[int, np.ndarray] = {}

    def batch_at(self, step: int) -> Int32[np.ndarray, "{self._batch} {self._length}+1"]:
        """Return the batch of a step, counted from 0. Steps can be read in any order."""
        visits = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs, windows = np.divmod(visits, self.windows_per_epoch)
        parts = [self._starts(epoch)[windows[epochs == epoch]] for epoch in range(epochs[0], epochs[-1] + 1)]
        starts = np.concatenate(parts)
        return self._tokens[starts[:, None] + self._window].astype(np.int32)

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the text after `step` steps."""
        return step * self._batch / self.windows_per_epoch

    def _starts(self, epoch: int) -> np.ndarray:
        """Return the first token of each window of an epoch, in visiting order. The last two epochs are cached."""
        if epoch not in self._epoch_starts:
            rng = np.random.default_rng([self._seed, epoch])
            offset = rng.integers(self._offsets)
            if len(self._epoch_starts) >= 2:
                del self._epoch_starts[min(self._epoch_starts)]
            self._epoch_starts[epoch] = offset + self._length * rng.permutation(self.windows_per_epoch)
        return self._epoch_starts[epoch]


def validation_batches(
    tokens: Tokens, batch: int, length: int, count: int
) -> Int32[np.ndarray, "{count} {batch} {length}+1"]:
    """Return fixed windows of a split. Each batch is spread evenly over the whole split.

    Args:
        tokens: token stream of the split.
        batch: windows in a batch.
        length: predicted tokens in a window.
        count: number of batches.

    Returns:
        The windows. They overlap only if the split has fewer than `count * batch * (length + 1)` tokens.

    Raises:
        UsageError: the split is shorter than one window.
    """
    _check_long_enough(tokens, length, "validation")
    windows = count * batch
    starts = np.arange(windows) * (len(tokens) - length - 1) // max(1, windows - 1)
    starts = starts.reshape(batch, count).T
    return np.asarray(tokens)[starts[:, :, None] + np.arange(length + 1)].astype(np.int32)


def _check_long_enough(tokens: Tokens, length: int, name: str) -> None:
    if len(tokens) < length + 1:
        raise UsageError(
            f"the {name} text has {len(tokens)} tokens, but one sequence of model.length {length} needs {length + 1}: "
            "use more text or a shorter length"
        )
