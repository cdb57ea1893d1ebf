"""Result of a simulated search: the true loss and price of the program that it ranks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..evolution.candidate import BASELINE_ID, Candidate
from .true_programs import TrueProgram, TruePrograms

__all__ = ["PAYING_GAIN", "FoundProgram", "found_program", "pays"]

PAYING_GAIN = 0.03
"""A mutation pays if it gains this many nats over its parent, both at equal steps and at equal time."""


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """The program that a simulated search ranks first, and how many mutations paid.

    Attributes:
        candidate_id: candidate; the baseline if no candidate trained to the end.
        gain, time_gain: true gain over the baseline at equal steps and at equal time, in nats per token.
        best_gain: largest true `smaller_gain` of all programs that trained to the end.
        paying_edits: number of mutations that pay and were trained to the end. Merges and reverts are not counted, here
            and below.
        paying_in_time: number of those that were trained to the end and gain enough at equal time, whatever they gain
            at equal steps.
        edits: number of mutations that were trained, to the end or not.
    """

    candidate_id: int
    gain: float
    time_gain: float
    best_gain: float
    paying_edits: int
    paying_in_time: int
    edits: int

    @property
    def smaller_gain(self) -> float:
        """The smaller one of `gain` and `time_gain`."""
        return min(self.gain, self.time_gain)


def found_program(
    best: int | None, outcomes: Sequence[tuple[int, str]], candidate: Callable[[int], Candidate], programs: TruePrograms
) -> FoundProgram:
    """Return what a search found.

    Args:
        best: candidate that the search ranks first; None: no candidate trained to the end.
        outcomes: candidate and outcome of each trial.
        candidate: returns a candidate by its id.
        programs: true programs.
    """
    named = programs[best or BASELINE_ID]
    finished = {number for number, outcome in outcomes if outcome == "ok"}
    edits = [each for each in map(candidate, {number for number, _ in outcomes}) if _mutated(each)]
    pairs = [(programs[each.id], programs[each.parent or BASELINE_ID]) for each in edits if each.id in finished]
    return FoundProgram(
        candidate_id=best or BASELINE_ID,
        gain=named.gain,
        time_gain=named.time_gain,
        best_gain=max((programs[number].smaller_gain for number in finished), default=0.0),
        paying_edits=sum(pays(child, parent) for child, parent in pairs),
        paying_in_time=sum(child.time_gain - parent.time_gain >= PAYING_GAIN for child, parent in pairs),
        edits=len(edits),
    )


def pays(child: TrueProgram, parent: TrueProgram) -> bool:
    """Return whether a mutation pays (see `PAYING_GAIN`)."""
    return min(child.gain - parent.gain, child.time_gain - parent.time_gain) >= PAYING_GAIN


def _mutated(candidate: Candidate) -> bool:
    return candidate.parent is not None and not candidate.mutations[0].startswith(("Merge", "Revert"))
