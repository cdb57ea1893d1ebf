"""Token ids to batches: training windows in a reproducible random order, and one fixed set of validation windows.

A batch depends on the seed and the step alone, so a trial that stops and goes on sees what it would have seen, and two
candidates with one seed see the same text. A window holds `length + 1` tokens: inputs, and targets one to the right.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Integer

from ...primitives.errors import UsageError

__all__ = ["TrainBatches", "validation_batches"]

Tokens = Integer[np.ndarray, " tokens"]


class TrainBatches:
    """Batches of a token stream, epoch after epoch, without replacement within an epoch.

    An epoch cuts the stream into windows at every `length` tokens after a random offset, and visits them in random
    order: every token but fewer than `2 * length` at the ends is a target once an epoch, in other company each time.
    """

    def __init__(self, tokens: Tokens, batch: int, length: int, seed: int):
        """Make batches.

        Args:
            tokens: the training split; may be a memory map, and stays one.
            batch: sequences in a batch.
            length: predicted tokens in a sequence.
            seed: not negative.

        Raises:
            UsageError: the stream is shorter than one window.
        """
        _check_long_enough(tokens, length, "training")
        # A view that is no np.memmap: indexing that subclass costs several times as much.
        self._tokens = np.asarray(tokens)
        self._batch = batch
        self._length = length
        self._seed = seed
        self._window = np.arange(length + 1)
        self.windows_per_epoch = max(1, (len(tokens) - length) // length)
        self._offsets = min(length, len(tokens) - self.windows_per_epoch * length)
        self._epoch_starts: dict[int, np.ndarray] = {}

    def batch_at(self, step: int) -> Int32[np.ndarray, "{self._batch} {self._length}+1"]:
        """The batch of a step, counted from 0; random access, the same whenever it is asked for."""
        visits = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs, places = np.divmod(visits, self.windows_per_epoch)
        first, last = int(epochs[0]), int(epochs[-1])
        parts = [self._starts(epoch)[places[epochs == epoch]] for epoch in range(first, last + 1)]
        starts = np.concatenate(parts)
        return self._tokens[starts[:, None] + self._window].astype(np.int32)

    def epochs_seen(self, step: int) -> float:
        """How often the text has been seen after `step` steps."""
        return step * self._batch / self.windows_per_epoch

    def _starts(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch start, in the order they are visited (the last two epochs are kept)."""
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
    """A fixed set of windows, spread evenly over all of a split; each single batch is spread over it, too.

    Args:
        tokens: the split.
        batch: windows in a batch.
        length: predicted tokens in a window.
        count: number of batches.

    Returns:
        The windows; they overlap only where the split has fewer than `count * batch * (length + 1)` tokens.

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
            f"The {name} text has {len(tokens)} tokens, fewer than the {length + 1} that one sequence of model.length"
            f" {length} needs: use more text or a shorter length."
        )
