"""What a simulated search found: the program it ranks first, judged by its true loss and price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        best_gain: largest true gain in the worse view of all programs that trained to the end.
        paying_edits: mutations that pay in both views, and were trained to the end.
        paying_in_time: the same at equal time alone.
        edits: mutations that were trained, to the end or not.
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
        """The gain in the worse of the two views."""
        return min(self.gain, self.time_gain)


def found_program(controller: Controller, programs: TruePrograms) -> FoundProgram:
    """Return what a search found whose simulation has ended."""
    best = controller.state().best
    named = programs[0 if best is None else best.id]
    trials = controller.store.evaluations(curves=False)
    finished = {trial.candidate_id for trial in trials if trial.evaluation.kind == "ok"}
    candidates = map(controller.evolution.candidate, {trial.candidate_id for trial in trials})
    edits = [each for each in candidates if _is_mutation(each)]
    finished_edits = [(programs[each.id], programs[each.parent or 0]) for each in edits if each.id in finished]
    in_time = [pair for pair in finished_edits if _more(pair, "time_gain")]
    return FoundProgram(
        candidate_id=0 if best is None else best.id,
        gain=named.gain,
        time_gain=named.time_gain,
        best_gain=max((programs[number].smaller_gain for number in finished), default=0.0),
        paying_edits=sum(_more(pair, "gain") for pair in in_time),
        paying_in_time=len(in_time),
        edits=len(edits),
    )


def _is_mutation(candidate: Candidate) -> bool:
    return candidate.parent is not None and not candidate.mutations[0].startswith(("Merge", "Revert"))


def _more(pair: tuple[TrueProgram, TrueProgram], view: Literal["gain", "time_gain"]) -> bool:
    child, parent = pair
    return getattr(child, view) - getattr(parent, view) >= PAYING_GAIN
