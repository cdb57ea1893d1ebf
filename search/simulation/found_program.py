"""What a simulated search found: the program it ranks first, judged by its true loss and price."""

from __future__ import annotations

from dataclasses import dataclass

from ..evolution.candidate import Candidate
from ..runs.controller import Controller
from .true_programs import TrueProgram, TruePrograms

__all__ = ["PAYING_GAIN", "FoundProgram", "found_program"]

PAYING_GAIN = 0.03
"""Gain of a mutation over its parent, in nats in the worse view, from which it pays (docs/discovery.md)."""


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """The program that a simulated search ranks first.

    Attributes:
        candidate_id: candidate; the baseline if nothing trained to the end.
        gain, time_gain: true gain over the baseline at equal steps and at equal time, in nats per token.
        paying_edits: mutations that pay, and were trained to the end.
        edits: mutations that were trained, to the end or not.
    """

    candidate_id: int
    gain: float
    time_gain: float
    paying_edits: int
    edits: int

    @property
    def smaller_gain(self) -> float:
        """The gain in the worse of the two views."""
        return min(self.gain, self.time_gain)


def found_program(controller: Controller, programs: TruePrograms) -> FoundProgram:
    """Return what a search found whose simulation has ended."""
    best = controller.state().best
    number = 0 if best is None else best.id
    trials = controller.store.evaluations(curves=False)
    finished = {trial.candidate_id for trial in trials if trial.evaluation.kind == "ok"}
    mutated = [each for trial in trials if _is_mutation(each := controller.evolution.candidate(trial.candidate_id))]
    edits = {each.id: each for each in mutated}
    paying = sum(
        each.id in finished and _pays(programs[each.id], programs[each.parent or 0]) for each in edits.values()
    )
    return FoundProgram(number, programs[number].gain, programs[number].time_gain, paying, len(edits))


def _is_mutation(candidate: Candidate) -> bool:
    return candidate.parent is not None and not candidate.mutations[0].startswith(("Merge", "Revert"))


def _pays(child: TrueProgram, parent: TrueProgram) -> bool:
    return min(child.gain - parent.gain, child.time_gain - parent.time_gain) >= PAYING_GAIN
