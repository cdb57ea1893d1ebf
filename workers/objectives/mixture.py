"""Mixture of tasks: number and order of the examples drawn (Raffel et al. 2020, arXiv 1910.10683, section 3.5.2).

In an epoch of the mixture, a task contributes as many examples as it has, but at most a cap, which limits the share of
large tasks. With given shares, each task contributes its share of the same total. The examples of a task are drawn in
random passes: in each pass, every example is drawn once, in a new random order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...primitives.errors import UsageError

__all__ = ["TaskMixture"]

MIXED = 2**31
"""Key of the random numbers that order an epoch; the keys of tasks are their numbers."""


class TaskMixture:
    """Order of the examples of several tasks.

    Attributes:
        draws: number of examples that each task contributes to an epoch of the mixture.
    """

    def __init__(self, tasks: Sequence[str], cap: int, shares: Mapping[str, float] | None, seed: int):
        """Make a mixture.

        Args:
            tasks: task of each example.
            cap: largest number of examples of a task in an epoch.
            shares: relative share of every task; None: proportional to the number of examples, at most the cap.
            seed: random seed, not negative.

        Raises:
            UsageError: the cap is below 1; or a share is negative, missing or of an unknown task; or all are 0.
        """
        if cap < 1:
            raise UsageError(f"the cap of examples per task is {cap}, but must be at least 1")
        names, task_of_example = np.unique(np.asarray(tasks), return_inverse=True)
        self._members = [np.flatnonzero(task_of_example == task) for task in range(len(names))]
        capped = [min(len(members), cap) for members in self._members]
        counts = capped if shares is None else _shared_draws([str(name) for name in names], sum(capped), shares)
        self.draws: dict[str, int] = {str(name): count for name, count in zip(names, counts, strict=True)}
        self._seed = seed

    def epoch(self, number: int) -> np.ndarray:
        """Return the indices of the examples of an epoch of the mixture, in a random order."""
        drawn = [
            self._members[task][self._order(task, number * count, count)]
            for task, count in enumerate(self.draws.values())
        ]
        return np.random.default_rng([self._seed, MIXED, number]).permutation(np.concatenate(drawn))

    def _order(self, task: int, start: int, count: int) -> np.ndarray:
        """Return `count` draws of a task, as indices of its examples. `start` counts its draws over all epochs."""
        size = len(self._members[task])
        first, last = start // size, (start + count - 1) // size
        passes = [
            np.random.default_rng([self._seed, task, visit]).permutation(size) for visit in range(first, last + 1)
        ]
        return np.concatenate([np.empty(0, int), *passes])[start - first * size :][:count]


def _shared_draws(names: Sequence[str], total: int, shares: Mapping[str, float]) -> list[int]:
    for name, share in shares.items():
        if name not in names:
            raise UsageError(f"there is no task {name!r} in the examples: choose among {', '.join(names)}")
        if not 0 <= share < math.inf:
            raise UsageError(f"the share of task {name} is {share:g}, but must be finite and at least 0")
    if missing := [name for name in names if name not in shares]:
        raise UsageError(f"the shares lack task {missing[0]}: give a share of every task, 0 to leave one out")
    if not sum(shares.values()) > 0:
        raise UsageError("the shares of all tasks are 0: give at least one task a share")
    whole = sum(shares.values())
    return [max(1, round(total * shares[name] / whole)) if shares[name] else 0 for name in names]
