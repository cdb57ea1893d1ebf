"""Lineage: the edits that lead from the baseline, or from an initial program, to a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evolution.candidate import BASELINE_ID

if TYPE_CHECKING:
    from ..runs.records import Ancestor

__all__ = ["LineageStep", "lineage_start", "trace_lineage"]


@dataclass(frozen=True, slots=True)
class LineageStep:
    """One candidate of a lineage, with the mutations of its parent, or the origin of an initial program."""

    candidate_id: int
    mutations: tuple[str, ...]


def trace_lineage(pedigree: Mapping[int, Ancestor], candidate_id: int) -> tuple[LineageStep, ...]:
    """Return the steps from the baseline, which is left out, or from an initial program to a candidate."""
    steps: list[LineageStep] = []
    candidate = pedigree[candidate_id]
    while candidate.id != BASELINE_ID:
        steps.append(LineageStep(candidate.id, candidate.mutations))
        if candidate.parent is None:  # an initial program, or a random program
            break
        candidate = pedigree[candidate.parent]
    return tuple(reversed(steps))


def lineage_start(lineage: Sequence[LineageStep], initial_programs: Mapping[int, str]) -> str:
    """Return where a lineage starts: the origin of an initial program, or `the baseline`."""
    first = initial_programs.get(lineage[0].candidate_id) if lineage else None
    return "the baseline" if first is None else first
