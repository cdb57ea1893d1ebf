"""A candidate is a DNA with a parent; an individual is a candidate's membership in the population.

Fitness is the validation loss in nats per token: lower is better, and None ranks after every number. A candidate that
failed by its own fault (non-finite, timeout, rejected, out of memory) has None, never a stand-in number, so that the
cause is not lost in the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...primitives.program import DNA
from ...workers.protocol import Evaluation

__all__ = ["BASELINE_ID", "Candidate", "Individual", "candidate_name", "fitness_of"]

BASELINE_ID = 0
"""Candidate 0 is the baseline, and the ancestor of all unless the search has imported initial programs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One DNA the search proposed.

    Attributes:
        id: its number in the run, in the order of proposal; 0 is the baseline.
        dna: the program.
        parent: the candidate it was mutated from; None for the baseline, for initial programs and for random programs.
        mutations: readable sentences of what was done to the parent, in order; where it came from, if it has none.
        structure_hash: of the canonical dataflow graph.
        same_as: the candidate of the same structure or function whose evaluation this one reuses at no cost, if any.
    """

    id: int
    dna: DNA
    parent: int | None
    mutations: tuple[str, ...]
    structure_hash: str
    same_as: int | None = None


@dataclass(frozen=True, slots=True)
class Individual:
    """A member of the population.

    Attributes:
        candidate_id: the candidate it is a copy of.
        fitness: validation loss in nats per token; None ranks after every number.
    """

    candidate_id: int
    fitness: float | None

    def __post_init__(self) -> None:
        if self.fitness is not None and not math.isfinite(self.fitness):
            raise ValueError(f"candidate {self.candidate_id} has fitness {self.fitness}: say None, which ranks last")


def fitness_of(evaluation: Evaluation) -> float | None:
    """The fitness an evaluation gives: the final loss, or that of the last hurdle for a trial stopped at one.

    Carrying the loss of the last hurdle is our choice where the paper is silent; it was trained for less, so it can
    only look worse than it might have become.

    Raises:
        ValueError: the evaluation says nothing of its candidate (`worker_lost`).
    """
    if evaluation.kind == "worker_lost":
        raise ValueError("a lost worker says nothing of its candidate: repeat the trial")
    if evaluation.kind == "ok":
        loss = evaluation.loss_nats
    elif evaluation.kind == "stopped_at_hurdle":
        loss = evaluation.hurdle_losses[-1] if evaluation.hurdle_losses else evaluation.loss_nats
    else:
        loss = None
    return loss if loss is not None and math.isfinite(loss) else None


def candidate_name(candidate_id: int) -> str:
    """`baseline`, or the number as people write it."""
    return "baseline" if candidate_id == BASELINE_ID else f"#{candidate_id}"
