"""Counts of proposals: how many mutations gave a new program, and why the others did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ProposalCounts", "count_proposals"]

_INVALID = "invalid_"


@dataclass(frozen=True, slots=True)
class ProposalCounts:
    """Outcomes of the mutations of a run, or of its random programs.

    Attributes:
        tried: number of mutations and random programs.
        random: whether programs were drawn at random.
        invalid: number of invalid programs by reason.
        known: number of valid programs that were not new, by reason.
    """

    tried: int
    random: bool
    invalid: dict[str, int]
    known: dict[str, int]

    @property
    def new(self) -> int:
        """Number of new programs."""
        return self.tried - sum(self.invalid.values()) - sum(self.known.values())


def count_proposals(proposals: Mapping[str, Any]) -> ProposalCounts:
    """Return the counts from the summed statistics of proposals (`RunTotals.proposals`).

    >>> count_proposals({"mutations": 9, "invalid_kinds": 3, "same_structure": 2}).new
    4
    """
    counts = {name: int(value) for name, value in proposals.items() if isinstance(value, int | float)}
    mutations, drawn = counts.pop("mutations", 0), counts.pop("drawn", 0)
    return ProposalCounts(
        tried=mutations + drawn,
        random=drawn > 0,
        invalid={name.removeprefix(_INVALID): value for name, value in counts.items() if name.startswith(_INVALID)},
        known={name: value for name, value in counts.items() if not name.startswith(_INVALID)},
    )
