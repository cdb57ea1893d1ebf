"""The interface of training objectives: batches to train on and held-out batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...models.training_batch import TrainingBatch
from ...primitives.causality.packed_texts import packing_fault
from ...primitives.causality.prefix_mask import prefix_fault
from ...primitives.graphs.graph import Graph

__all__ = ["Objective", "objective_fault"]


class Objective(Protocol):
    """Source of training batches. All batches have the same shapes, and None in the same places."""

    @property
    def name(self) -> str:
        """Name of the objective."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the model must embed, special tokens of the objective included."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about the data that the user should read; usually there are none."""
        ...

    def batch_at(self, step: int) -> TrainingBatch:
        """Return the batch of a step, counted from 0. It depends only on the seed and the step."""
        ...

    def held_out(self) -> Sequence[TrainingBatch]:
        """Return fixed batches of the same objective that training never sees."""
        ...

    def epochs_seen(self, step: int) -> float:
        """Return the number of passes over the training data after `step` steps."""
        ...


def objective_fault(objective: str, graph: Graph, prefix: bool = False) -> str:
    """Return the reason why a program cannot be trained with an objective; empty if it can.

    Args:
        objective: name of the objective.
        graph: canonical program.
        prefix: whether the inputs of examples are a prefix, read in both directions. `ul2r` always has a prefix.
    """
    if objective == "instruct" and (fault := packing_fault(graph)):
        return f"{objective} packs several examples into a sequence, but the program cannot separate them: {fault}"
    if (objective == "ul2r" or prefix) and (fault := prefix_fault(graph)):
        return f"{objective} reads a prefix in both directions, but the program cannot: {fault}"
    return ""
