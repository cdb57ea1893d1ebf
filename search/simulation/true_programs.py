"""True loss and price of simulated programs.

A child's true loss is its parent's plus an effect drawn from the recorded children of its kind: mutations of programs
that are better than the baseline by `GOOD_GAIN`, mutations of others, and merges (a revert counts as a mutation).
Effects are relative to the first parent, also for merges. An improvement shrinks with what has been gained, so the gain
over the baseline stays below `LARGEST_GAIN`: without a limit, a million trainings would add up to an impossible loss.

The price, the time of a step relative to the baseline's, changes by the factor of the same recorded child, between
1 / `LARGEST_PRICE` and `LARGEST_PRICE`. A child drawn as a fault fails in every training, and passes its parent's loss
and price on to children of its own.

A draw depends on the candidate's structure and the random seed of the simulation alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..evolution.candidate import Candidate
from .recorded_trainings import RecordedTraining, Recording

__all__ = ["GOOD_GAIN", "LARGEST_GAIN", "LARGEST_PRICE", "TrueProgram", "TruePrograms"]

GOOD_GAIN = 0.01
"""Gain over the baseline, in nats, from which a parent counts as good: it is harder to improve."""

LARGEST_GAIN = 0.4
"""Limit of the gain over the baseline, in nats: a guess. The best program found so far gains 0.32."""

LARGEST_PRICE = 3.0
"""Limit of the step time relative to the baseline's."""


@dataclass(frozen=True, slots=True)
class TrueProgram:
    """What trainings of a program measure with noise.

    Attributes:
        gain: how much better than the baseline its loss at equal steps is, in nats per token.
        log_price: logarithm of its step time over the baseline's.
        fault: recorded training whose fault it has; None: it trains.
    """

    gain: float
    log_price: float
    fault: RecordedTraining | None = None


class TruePrograms:
    """The true programs of a simulated search, by candidate.

    Args:
        recording: recorded trainings.
        seed: random seed of the simulation.
        candidate: returns a candidate of the search by its id.
    """

    def __init__(self, recording: Recording, seed: int, candidate: Callable[[int], Candidate]):
        self._seed = seed
        self._candidate = candidate
        self._programs: dict[int, TrueProgram] = {}
        mutations = [each for each in recording.children if each.kind == "mutation"]
        self._of_good = [each for each in mutations if each.parent_gain >= GOOD_GAIN]
        self._of_others = [each for each in mutations if each.parent_gain < GOOD_GAIN]
        self._merges = [each for each in recording.children if each.kind == "merge"]

    def __getitem__(self, candidate_id: int) -> TrueProgram:
        """Return the program of a candidate."""
        unknown: list[Candidate] = []
        number: int | None = candidate_id
        while number is not None and number not in self._programs:
            unknown.append(self._candidate(number))
            number = unknown[-1].parent if unknown[-1].same_as is None else unknown[-1].same_as
        for candidate in reversed(unknown):
            self._programs[candidate.id] = self._of(candidate)
        return self._programs[candidate_id]

    def _of(self, candidate: Candidate) -> TrueProgram:
        if candidate.same_as is not None:
            return self._programs[candidate.same_as]
        if candidate.parent is None:
            return TrueProgram(0.0, 0.0)
        parent = self._programs[candidate.parent]
        rng = np.random.default_rng((self._seed, *candidate.structure_hash.encode()[:16]))
        pool = self._pool(candidate, parent)
        drawn = pool[int(rng.integers(len(pool)))]
        if drawn.effect is None:
            return TrueProgram(parent.gain, parent.log_price, drawn)
        gained = -drawn.effect
        if gained > 0.0:
            gained *= max(0.0, 1.0 - parent.gain / LARGEST_GAIN)
        limit = math.log(LARGEST_PRICE)
        return TrueProgram(parent.gain + gained, min(max(parent.log_price + drawn.log_price_change, -limit), limit))

    def _pool(self, candidate: Candidate, parent: TrueProgram) -> Sequence[RecordedTraining]:
        if any(edit.startswith("Merge with") for edit in candidate.mutations):
            return self._merges
        return self._of_good if parent.gain >= GOOD_GAIN else self._of_others
