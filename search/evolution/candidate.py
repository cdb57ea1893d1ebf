"""Candidates (DNAs with a parent) and individuals (members of the population).

Fitness is the validation loss in nats per token. Lower is better, and None ranks after every number. A candidate that
failed (non-finite, timeout, rejected, out of memory) has the fitness None. A large number would look like the result of
a complete training.
"""

from __future__ import annotations

import math
import pickle
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...primitives.programs.program import DNA
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation

__all__ = [
    "BASELINE_ID",
    "Candidate",
    "Candidates",
    "Individual",
    "candidate_name",
    "evaluation_fitness",
    "reached_loss",
]

BASELINE_ID = 0
"""Id of the baseline, the ancestor of all candidates unless the search imports initial programs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One DNA that the search proposed.

    Attributes:
        id: number in the run, in the order of proposal; 0 is the baseline.
        dna: the program.
        parent: the candidate it was mutated from; None for the baseline, for initial programs and for random programs.
        mutations: descriptions of the edits of the parent, in order; without a parent, the origin of the program.
        structure_hash: hash of the canonical dataflow graph.
        same_as: earlier candidate with the same structure or function, whose evaluation this one reuses; None if new.
        unit: unit of width that it is trained at, if `model.parameter_range` resizes it; None: the configured unit. The
            constants of `dna` are for the configured unit.
    """

    id: int
    dna: DNA
    parent: int | None
    mutations: tuple[str, ...]
    structure_hash: str
    same_as: int | None = None
    unit: int | None = None

    @property
    def evaluated_id(self) -> int:
        """Id of the candidate whose evaluation is the result of this one: `same_as`, or its own id if new."""
        return self.id if self.same_as is None else self.same_as


class Candidates(Mapping[int, Candidate]):
    """The candidates of a search by id, in order of proposal.

    A candidate takes 16 kB of memory as Python objects and 3 kB compressed. So only the candidates that were used last,
    which are the likely parents, are kept as objects.
    """

    _OBJECTS = 256

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}
        self._objects: dict[int, Candidate] = {}

    def add(self, candidate: Candidate) -> None:
        """Add a candidate."""
        self._packed[candidate.id] = zlib.compress(pickle.dumps(candidate, pickle.HIGHEST_PROTOCOL), level=1)
        self._use(candidate)

    def __getitem__(self, candidate_id: int) -> Candidate:
        candidate = self._objects.pop(candidate_id, None)
        return self._use(candidate or pickle.loads(zlib.decompress(self._packed[candidate_id])))

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def _use(self, candidate: Candidate) -> Candidate:
        self._objects[candidate.id] = candidate
        if len(self._objects) > self._OBJECTS:
            del self._objects[next(iter(self._objects))]
        return candidate


@dataclass(frozen=True, slots=True)
class Individual:
    """A member of the population.

    Attributes:
        candidate_id: candidate that this individual is a copy of.
        fitness: validation loss in nats per token; None ranks after every number.
    """

    candidate_id: int
    fitness: float | None

    def __post_init__(self) -> None:
        if self.fitness is not None and not math.isfinite(self.fitness):
            raise ValueError(
                f"candidate {self.candidate_id} has fitness {self.fitness}, not finite: use None, which ranks last"
            )


def evaluation_fitness(evaluation: Evaluation) -> float | None:
    """Return the final loss, or the loss at the last hurdle for a trial that stopped there.

    To use the loss at the last hurdle is our choice (the paper does not say what to use). It is higher than the final
    loss would have been, because the training was shorter.

    Raises:
        ValueError: the trial has no result, because its worker was lost or its training raised an exception.
    """
    if evaluation.kind in INFRASTRUCTURE_FAULTS:
        raise ValueError(f"the trial ended with {evaluation.kind}, so the candidate has no result: repeat the trial")
    return reached_loss(evaluation)


def reached_loss(evaluation: Evaluation) -> float | None:
    """Return the final loss, or the loss at the hurdle that stopped the training; None if the training failed."""
    if evaluation.kind == "ok":
        loss = evaluation.loss_nats
    elif evaluation.kind == "stopped_at_hurdle":
        loss = evaluation.hurdle_losses[-1] if evaluation.hurdle_losses else evaluation.loss_nats
    else:
        loss = None
    return loss if loss is not None and math.isfinite(loss) else None


def candidate_name(candidate_id: int) -> str:
    """Return `baseline`, or the id as `#17`."""
    return "baseline" if candidate_id == BASELINE_ID else f"#{candidate_id}"
