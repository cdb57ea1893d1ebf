"""Lineage: the edits that lead from the baseline, or from an initial program, to a candidate.

Every program is the baseline with a set of edits. Each edit is identified by the first candidate that has it. A mutated
child has its parent's edits and its own, a merge the edits of both parents, a revert all edits of its parent but one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evolution.candidate import BASELINE_ID

if TYPE_CHECKING:
    from ..runs.records import Ancestor

__all__ = ["LineageStep", "find_edits", "lineage_start", "merged_parents", "trace_lineage"]


@dataclass(frozen=True, slots=True)
class LineageStep:
    """One edit of a lineage.

    Attributes:
        candidate_id: first candidate with the edit.
        mutations: differences of that candidate to its parent, or the origin of an initial program.
        merged_from: parents that have the edit, in the lineage of a merge; otherwise empty.
    """

    candidate_id: int
    mutations: tuple[str, ...]
    merged_from: tuple[int, ...] = ()


def trace_lineage(ancestry: Mapping[int, Ancestor], candidate_id: int) -> tuple[LineageStep, ...]:
    """Return the edits of a candidate, the oldest first; () for the baseline."""
    parents = _parents(ancestry[candidate_id])
    parent_edits = {parent: find_edits(ancestry, parent) for parent in parents if len(parents) > 1}
    return tuple(
        LineageStep(
            edit,
            ancestry[edit].mutations,
            tuple(sorted(parent for parent in parent_edits if edit in parent_edits[parent])),
        )
        for edit in sorted(find_edits(ancestry, candidate_id))
    )


def find_edits(ancestry: Mapping[int, Ancestor], candidate_id: int) -> frozenset[int]:
    """Return the edits of a candidate, each as the id of the first candidate with it."""
    edits: set[int] = set()
    candidate = ancestry[candidate_id]
    while candidate.edits is None and candidate.id != BASELINE_ID:
        edits.add(candidate.id)
        if candidate.parent is None:  # an initial program, or a random program
            break
        candidate = ancestry[candidate.parent]
    return frozenset(edits.union(candidate.edits or ()))


def lineage_start(lineage: Sequence[LineageStep], initial_programs: Mapping[int, str]) -> str:
    """Return where a lineage starts: the origin of an initial program, or `the baseline`."""
    first = initial_programs.get(lineage[0].candidate_id) if lineage else None
    return "the baseline" if first is None else first


def merged_parents(lineage: Sequence[LineageStep]) -> tuple[int, ...]:
    """Return the two parents of a merge, found in its lineage; () for other candidates."""
    return tuple(sorted({parent for step in lineage for parent in step.merged_from}))


def _parents(candidate: Ancestor) -> tuple[int, ...]:
    if candidate.parent is None:
        return ()
    return (candidate.parent,) if candidate.merged_with is None else (candidate.parent, candidate.merged_with)
