"""Replacement for the proposals of evolution: each child is a copy of its parent's program, with an invented hash.

This saves the work of mutations, checks and comparisons, so a simulation of a million candidates takes minutes. The
tournaments, the population and everything after the proposal are real.
"""

from __future__ import annotations

from ..evolution.candidate import Candidate
from ..evolution.evolution import Evolution
from ..evolution.proposals import Proposal

__all__ = ["CopyingEvolution"]


class CopyingEvolution(Evolution):
    """Regularized evolution whose children are copies."""

    def ask(self) -> tuple[Candidate, Proposal]:
        """Return the next candidate: a copy of a tournament's winner."""
        number = self.next_id
        parent = self._parent(self._generator())
        origin = self._candidates[parent]
        proposal = Proposal(origin.dna, ("Copy",), f"copy {number}", None, None, {"mutations": 1})
        return Candidate(number, origin.dna, parent, ("Copy",), proposal.structure_hash, unit=origin.unit), proposal
