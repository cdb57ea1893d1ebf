"""Lineage: the edits that lead from the baseline, or from an initial program, to a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evolution.candidate import BASELINE_ID

if TYPE_CHECKING:
    from ..runs.records import Ancestor
    from ..runs.store import Store

__all__ = ["LineageStep", "lineage", "lineage_start"]


@dataclass(frozen=True, slots=True)
class LineageStep:
    """One step to a candidate: the mutations that made it from its parent, or the origin of an initial program."""

    candidate_id: int
    mutations: tuple[str, ...]


def lineage(store: Store, candidate_id: int) -> tuple[LineageStep, ...]:
    """The steps from the baseline (left out), or from an initial program, to a candidate.

    Raises:
        UsageError: the run has no such candidate.
    """
    return trace_lineage(store.pedigree(), store.candidate(candidate_id).id)


def trace_lineage(pedigree: Mapping[int, Ancestor], candidate_id: int) -> tuple[LineageStep, ...]:
    steps: list[LineageStep] = []
    candidate = pedigree[candidate_id]
    while candidate.id != BASELINE_ID:
        steps.append(LineageStep(candidate.id, candidate.mutations))
        if candidate.parent is None:  # an initial program, or a random program
            break
        candidate = pedigree[candidate.parent]
    return tuple(reversed(steps))


def lineage_start(lineage: Sequence[LineageStep], initial_programs: Mapping[int, str]) -> str:
    """Where an ancestry begins: at an initial program, or at the baseline."""
    first = initial_programs.get(lineage[0].candidate_id) if lineage else None
    return "the baseline" if first is None else first
