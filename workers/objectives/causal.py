"""Causal language modeling: predict each next token of plain text. A search trains all candidates on this objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from ...models.training_batch import TrainingBatch
from ..data.batches import TrainBatches, validation_batches

__all__ = ["CausalObjective", "causal_objective"]


@dataclass(frozen=True)
class CausalObjective:
    """Causal language modeling on windows of a token stream.

    Attributes:
        batches: windows of the training split.
        validation: windows [count, batch, length + 1] of the validation split.
        vocabulary: number of token ids.
    """

    batches: TrainBatches
    validation: np.ndarray
    vocabulary: int
    name: str = "causal"
    notes: tuple[str, ...] = ()

    def batch_at(self, step: int) -> TrainingBatch:
        """Return the batch of a step, counted from 0."""
        return TrainingBatch(self.batches.batch_at(step))

    def held_out(self) -> list[TrainingBatch]:
        """Return the windows of the validation split."""
        return [TrainingBatch(tokens) for tokens in self.validation]

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the training split after `step` steps."""
        return self.batches.epochs_seen(step)


def causal_objective(
    train: Integer[np.ndarray, " tokens"],
    validation: Integer[np.ndarray, " tokens"],
    vocabulary: int,
    *,
    batch: int,
    length: int,
    seed: int,
    held_out_batches: int,
) -> CausalObjective:
    """Return the causal objective of a dataset.

    Args:
        train: token ids of the training split.
        validation: token ids of the validation split.
        vocabulary: number of token ids.
        batch: sequences in a batch.
        length: predicted tokens in a sequence.
        seed: random seed, not negative.
        held_out_batches: number of held-out batches.

    Raises:
        UsageError: a split is shorter than one sequence.
    """
    return CausalObjective(
        TrainBatches(train, batch, length, seed),
        validation_batches(validation, batch, length, held_out_batches),
        vocabulary,
    )
