"""True loss and price of simulated programs.

The effects of edits on loss and price add up. The effect of a mutation is drawn from the recorded mutations: for
evolution from the paper's mutations, for the guided search from mutations of live code (code that the output depends
on). Mutations of good parents, which are better than the baseline by `GOOD_GAIN`, are drawn separately from mutations
of others. A merge has the effects of both programs' edits, and the change of a recorded merge from the sum of its
parts. A revert removes the effect of one edit.

The sum of the effects is limited smoothly, so the gain over the baseline stays below `LARGEST_GAIN`. Without a limit, a
million trainings would add up to an impossible loss. The price, the time of a step relative to the baseline's, stays
between 1 / `LARGEST_PRICE` and `LARGEST_PRICE`. If the drawn training ended with a fault, the child fails in every
training, and its own children have its parent's effects.

A draw depends only on the candidate's structure and the random seed of the simulation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..evolution.candidate import Candidate
from .recorded_trainings import RecordedTraining, Recording

__all__ = [
    "GOOD_GAIN",
    "LARGEST_GAIN",
    "LARGEST_PRICE",
    "PRICE_SLOPE",
    "Effect",
    "TrueProgram",
    "TruePrograms",
    "sum_of_effects",
]

GOOD_GAIN = 0.01
"""Gain over the baseline, in nats, from which a parent counts as good. Good parents are harder to improve."""

LARGEST_GAIN = 0.6
"""Limit of the gain over the baseline, in nats. It is a guess: the best program found so far gains 0.44."""

LARGEST_PRICE = 3.0
"""Limit of the step time relative to the baseline's."""

PRICE_SLOPE = 0.34
"""Nats by which the loss decreases when a training has e times as many steps, measured on the recorded trainings."""

_MERGE = re.compile(r"Merge with #(\d+)")
_REVERT = re.compile(r"Revert of the edit of #(\d+)")


@dataclass(frozen=True, slots=True)
class Effect:
    """Effect of an edit on the loss in nats per token (positive is better) and on the logarithm of the step time."""

    gain: float
    log_price: float


@dataclass(frozen=True, slots=True)
class TrueProgram:
    """True effects of a program, which trainings measure with noise.

    Attributes:
        total: sum of the effects of its edits.
        fault: recorded training with the fault that its trainings end with; None: its trainings do not fail.
    """

    total: Effect
    fault: RecordedTraining | None = None

    @property
    def gain(self) -> float:
        """How much better than the baseline its loss at equal steps is, in nats per token (see `sum_of_effects`)."""
        total = self.total.gain
        return total if total <= 0.0 else LARGEST_GAIN * -math.expm1(-total / LARGEST_GAIN)

    @property
    def log_price(self) -> float:
        """Logarithm of its step time over the baseline's."""
        limit = math.log(LARGEST_PRICE)
        return min(max(self.total.log_price, -limit), limit)

    @property
    def time_gain(self) -> float:
        """How much better than the baseline its loss at equal time is, in nats per token."""
        return self.gain - PRICE_SLOPE * self.log_price

    @property
    def smaller_gain(self) -> float:
        """The smaller one of `gain` and `time_gain`."""
        return min(self.gain, self.time_gain)


def sum_of_effects(gain: float) -> float:
    """Return the sum of effects that results in a gain: the gain if it is negative, otherwise more than the gain.

    The sum grows steeply near the limit of the gain.

    >>> sum_of_effects(-0.2), round(sum_of_effects(0.1), 3), round(sum_of_effects(0.5), 3)
    (-0.2, 0.109, 1.075)
    """
    return gain if not gain > 0.0 else -LARGEST_GAIN * math.log1p(-min(gain / LARGEST_GAIN, 0.999))


class TruePrograms:
    """The true programs of a simulated search, by candidate.

    Args:
        recording: recorded trainings.
        seed: random seed of the simulation.
        candidate: returns a candidate of the search by its id.
        mutations: kind of recorded mutations that children are drawn from.
    """

    def __init__(
        self,
        recording: Recording,
        seed: int,
        candidate: Callable[[int], Candidate],
        mutations: Literal["paper", "live"] = "paper",
    ):
        self._seed = seed
        self._candidate = candidate
        self._programs: dict[int, TrueProgram] = {}
        self._effects: dict[int, Effect] = {}  # of edits, by the candidate in which they first occurred
        self._edits: dict[int, frozenset[int]] = {}  # edits by program, only of programs that a merge or revert needed
        drawn = [each for each in recording.children if each.kind == mutations]
        self._of_good = [each for each in drawn if each.parent_gain >= GOOD_GAIN]
        self._of_others = [each for each in drawn if each.parent_gain < GOOD_GAIN]
        self._merges = [each for each in recording.children if each.kind == "merge"]

    def __getitem__(self, candidate_id: int) -> TrueProgram:
        """Return the program of a candidate."""
        unknown: list[Candidate] = []
        number: int | None = candidate_id
        while number is not None and number not in self._programs:
            unknown.append(self._candidate(number))
            number = unknown[-1].parent if unknown[-1].same_as is None else unknown[-1].same_as
        for candidate in reversed(unknown):
            self._programs[candidate.id] = self._true_program(candidate)
        return self._programs[candidate_id]

    def _true_program(self, candidate: Candidate) -> TrueProgram:
        if candidate.same_as is not None:
            return self._programs[candidate.same_as]
        if candidate.parent is None:
            return TrueProgram(Effect(0.0, 0.0))
        parent, edit = self._programs[candidate.parent], " ".join(candidate.mutations)
        if reverted := _REVERT.search(edit):
            return TrueProgram(self._sum(self._edits_of(candidate.parent) - {int(reverted[1])}))
        if merged := _MERGE.search(edit):
            other = int(merged[1])
            self[other]  # draws its effect
            inherited = self._sum(self._edits_of(candidate.parent) | self._edits_of(other))
            drawn = self._draw(candidate, self._merges)
        else:
            inherited = parent.total
            drawn = self._draw(candidate, self._of_good if parent.gain >= GOOD_GAIN else self._of_others)
        if drawn.effect is None or drawn.log_price_change is None:
            return TrueProgram(inherited, drawn)
        own = self._effects[candidate.id] = Effect(drawn.effect, drawn.log_price_change)
        return TrueProgram(Effect(inherited.gain + own.gain, inherited.log_price + own.log_price))

    def _draw(self, candidate: Candidate, pool: Sequence[RecordedTraining]) -> RecordedTraining:
        rng = np.random.default_rng((self._seed, *candidate.structure_hash.encode()[:16]))
        return pool[int(rng.integers(len(pool)))]

    def _sum(self, edits: Set[int]) -> Effect:
        effects = [self._effects[edit] for edit in edits]
        return Effect(sum(each.gain for each in effects), sum(each.log_price for each in effects))

    def _edits_of(self, candidate_id: int) -> frozenset[int]:
        """Return the edits of a program, after finding the edits of its ancestors, from the oldest on."""
        unknown = [candidate_id]
        while unknown:
            candidate = self._candidate(unknown[-1])
            edit = " ".join(candidate.mutations)
            merged, reverted = _MERGE.search(edit), _REVERT.search(edit)
            sources = [candidate.parent if candidate.same_as is None else candidate.same_as]
            if merged and candidate.same_as is None:
                sources.append(int(merged[1]))
            missing = [each for each in sources if each is not None and each not in self._edits]
            if missing:
                unknown += missing
                continue
            own = {candidate.id} & self._effects.keys()
            lost = {int(reverted[1])} if reverted else set()
            inherited = frozenset().union(*(self._edits[each] for each in sources if each is not None))
            self._edits[unknown.pop()] = (inherited - lost) | own
        return self._edits[candidate_id]
