"""The contract of objectives: batches of training and of held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...models.training_batch import TrainingBatch

__all__ = ["Objective"]


class Objective(Protocol):
    """Source of training batches. All batches have the same shape, and the same arrays that are not None."""

    @property
    def name(self) -> str:
        """Name of the objective."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the model must embed, special tokens of the objective included."""
        ...

    def batch_at(self, step: int) -> TrainingBatch:
        """Return the batch of a step, counted from 0. It depends on the seed and the step alone."""
        ...

    def held_out(self) -> Sequence[TrainingBatch]:
        """Return fixed batches that training never sees, with the same objective."""
        ...

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the training data after `step` steps."""
        ...
