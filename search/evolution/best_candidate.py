"""The best candidate of a running search, by the same figures as the leaderboard.

A result can make the best candidate worse: a retraining changes its mean loss, and if fitness includes prices, every
timing changes the fitness of all candidates. Only after such a result are all candidates compared again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

from ...workers.protocol import Evaluation
from .candidate import BASELINE_ID

__all__ = ["BestCandidate", "BestSoFar"]


@dataclass(frozen=True, slots=True)
class BestCandidate:
    """The candidate that the leaderboard would rank first, besides the baseline.

    Attributes:
        id: candidate id.
        loss_nats: mean loss of its complete trainings, in nats per token.
        bits_per_byte: mean loss of its complete trainings, in bits per byte; None if unknown.
        fitness_nats: fitness that ranks candidates: the loss, and in a guided search the price of steps that are slower
            than the baseline's.
    """

    id: int
    loss_nats: float
    bits_per_byte: float | None
    fitness_nats: float


class BestSoFar:
    """Records complete trainings, and returns the best candidate among those without a diverged training.

    Args:
        fitness: returns the fitness of a candidate; None if it has none.
        others_change: whether a result can change the fitness of other candidates.
    """

    def __init__(self, fitness: Callable[[int], float | None], others_change: bool = True):
        self._fitness = fitness
        self._others_change = others_change
        self._trainings: defaultdict[int, list[Evaluation]] = defaultdict(list)
        self._diverged: set[int] = set()
        self._best: BestCandidate | None = None
        self._stale = False

    def record(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Add the result of a trial. Trials that were stopped, and trials of the baseline, can change prices."""
        if candidate_id != BASELINE_ID and evaluation.kind == "ok" and evaluation.loss_nats is not None:
            self._trainings[candidate_id].append(replace(evaluation, curve=()))  # the curve takes most memory
        if evaluation.diverged:
            self._diverged.add(candidate_id)
        if self._others_change or (self._best is not None and self._best.id == candidate_id):
            self._stale = True
        elif not self._stale and candidate_id in self._trainings and candidate_id not in self._diverged:
            fitness = self._fitness(candidate_id)
            best = (math.inf, 0) if self._best is None else (self._best.fitness_nats, self._best.id)
            if fitness is not None and (fitness, candidate_id) < best:
                self._best = self._describe(fitness, candidate_id)

    def best(self) -> BestCandidate | None:
        """Return the best candidate; None while no candidate has a fitness."""
        if self._stale:
            self._best, self._stale = self._find(), False
        return self._best

    def _find(self) -> BestCandidate | None:
        stable = self._trainings.keys() - self._diverged
        known = [(fitness, number) for number in stable if (fitness := self._fitness(number)) is not None]
        if not known:
            return None
        return self._describe(*min(known))

    def _describe(self, fitness: float, number: int) -> BestCandidate:
        losses = [each.loss_nats for each in self._trainings[number] if each.loss_nats is not None]
        bits = [each.bits_per_byte for each in self._trainings[number] if each.bits_per_byte is not None]
        return BestCandidate(number, fmean(losses), fmean(bits) if bits else None, fitness)
