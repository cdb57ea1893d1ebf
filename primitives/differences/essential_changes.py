"""Essential changes between two programs: a set that suffices for the function, and from which none can be left out."""

from __future__ import annotations

from ..errors import InvalidProgramError, MalformedProgramError
from ..graphs.canonical import build_graph
from ..graphs.fingerprint import function_identity
from ..programs.program import DNA
from .program_diff import ProgramDiff

__all__ = ["essential_changes"]


def essential_changes(diff: ProgramDiff, *, length_dependent: bool = False) -> frozenset[int]:
    """Return changes that suffice for the candidate's function, none of which can be left out.

    Changes are undone one after another, the last first, as long as the function stays the same. No program is trained.

    Args:
        diff: changes from a baseline to a candidate.
        length_dependent: passed to `build_graph`.

    Raises:
        InvalidProgramError: the candidate itself is invalid.
    """
    known: dict[str, str] = {}  # function by structure hash; many subsets of changes give the same structure

    def function(dna: DNA) -> str:
        graph = build_graph(dna, length_dependent=length_dependent)
        if graph.structure_hash not in known:
            known[graph.structure_hash] = function_identity(graph)
        return known[graph.structure_hash]

    kept, wanted = diff.numbers, function(diff.candidate)
    settled = False
    while not settled:
        settled = True
        for number in sorted(kept, reverse=True):
            try:
                same = function(diff.apply(kept - {number})) == wanted
            except (InvalidProgramError, MalformedProgramError):
                continue
            if same:
                kept, settled = kept - {number}, False
    return kept
