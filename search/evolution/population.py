"""The population of regularized evolution: a queue that drops its oldest member, and tournaments that pick parents.

Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search" (2019, arXiv 1802.01548),
as Primer uses it (section 2). Age is the order of arrival, so that a run replays from its events alone.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from .candidate import Individual

__all__ = ["Population"]


class Population:
    """At most `size` individuals; adding one more removes the oldest, however good it is."""

    def __init__(self, size: int):
        if size < 1:
            raise ValueError(f"the population size must be at least 1, not {size}")
        self.size = size
        self._members: deque[Individual] = deque()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> tuple[Individual, ...]:
        """Members, the oldest first."""
        return tuple(self._members)

    def add(self, individual: Individual) -> Individual | None:
        """Add an individual; return the oldest member if the population was full and it was removed, else None."""
        self._members.append(individual)
        return self._members.popleft() if len(self._members) > self.size else None

    def tournament(self, rng: np.random.Generator, k: int) -> Individual:
        """Return the best of `k` individuals drawn without replacement (of all, if there are fewer).

        Among individuals of equal fitness the youngest wins, so the result depends only on which ones are drawn.

        Args:
            rng: source of randomness; one draw is taken from it.
            k: number of individuals in the tournament, at least 1.

        Raises:
            ValueError: `k` is below 1, or the population is empty.
        """
        if k < 1 or not self._members:
            raise ValueError(f"a tournament of {k} among {len(self)} individuals: both must be at least 1")
        drawn = rng.choice(len(self), size=min(k, len(self)), replace=False)
        return self._members[min((int(place) for place in drawn), key=self._rank)]

    def _rank(self, place: int) -> tuple[bool, float, int]:
        fitness = self._members[place].fitness
        return (fitness is None, 0.0 if fitness is None else fitness, -place)
