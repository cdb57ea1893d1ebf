"""Random seeds of trials: each candidate has a sequence of them, derived from the run's seed.

A trial repeated after an interruption or a fault gets its earlier seed again. So if trials are deterministic (budgets
in steps, inline executor), an interrupted search makes the same candidates as an uninterrupted one.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

__all__ = ["TrialSeeds"]


class TrialSeeds:
    """The seeds that finished and running trials use.

    Args:
        run_seed: random seed of the run.
    """

    def __init__(self, run_seed: int):
        self._run_seed = run_seed
        self._used: defaultdict[int, set[int]] = defaultdict(set)
        self._first_free: dict[int, int] = {}  # so that control trials of the baseline need no long search

    def draw(self, candidate_id: int) -> int:
        """Return the candidate's first seed that no trial uses, and mark it as used."""
        used, place = self._used[candidate_id], self._first_free.get(candidate_id, 0)
        while (seed := self._seed(candidate_id, place)) in used:
            place += 1
        used.add(seed)
        self._first_free[candidate_id] = place + 1
        return seed

    def add(self, candidate_id: int, seed: int) -> None:
        """Mark a seed as used."""
        self._used[candidate_id].add(seed)

    def release(self, candidate_id: int, seed: int) -> None:
        """Mark a seed as free, after a trial without a result."""
        self._used[candidate_id].discard(seed)
        self._first_free.pop(candidate_id, None)

    def count(self, candidate_id: int) -> int:
        """Return the number of used seeds of a candidate."""
        return len(self._used[candidate_id])

    def _seed(self, candidate_id: int, place: int) -> int:
        return int(np.random.SeedSequence((self._run_seed, 1, candidate_id, place)).generate_state(1)[0])
