"""Totals by kind of edit: how many were proposed, how many of those trained to the end, and what they gained.

A child is mutated until its program is new, and counts for the kind of its last edit. Gains are only of children that
trained their full budget and whose parents did. Most children are stopped earlier, because they look worse, so the mean
gain is the mean of the survivors, not of all edits of the kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..digest.candidate_table import RANKED
from ..digest.row_query import STATUSES
from ..digest.run_digest import RunDigest
from ..statistics import Estimate, mean_interval

__all__ = ["EditKindTotals", "edit_kind_totals"]

_ENDS = ("1", RANKED, STATUSES["stopped"], STATUSES["failed"], "class IS NULL")
"""SQL conditions of `new`, `full`, `stopped`, `failed` and `waiting`."""

_NONE = (0,) * (1 + len(_ENDS))

_GAINS = (
    # In the order of proposal: parents are then near their children, which is faster than by rank.
    "SELECT child.kind, parent.ranking - child.ranking FROM candidates AS child NOT INDEXED"
    " JOIN candidates AS parent ON parent.id = child.parent WHERE child.same_as IS NULL"
    " AND child.class = 0 AND child.subclass = 0 AND parent.class = 0 AND parent.subclass = 0 ORDER BY child.id"
)


@dataclass(frozen=True, slots=True)
class EditKindTotals:
    """Totals of one kind of edit.

    Attributes:
        kind: first words of the descriptions of its edits, such as `Insert`.
        tried, invalid, known: numbers of mutations that were tried, that were invalid, and that were valid but made no
            new program; None for runs of versions that did not count them, and for merges and reverts.
        proposed: number of children whose last edit is of this kind.
        new: number of these children whose program the run had not seen.
        full, stopped, failed: numbers of new children that trained their full budget, that a hurdle stopped, and that
            ended otherwise.
        waiting: number of new children without a result yet.
        compared: number of new children that trained their full budget, and whose parents did.
        improved: number of compared children with a lower loss than their parent.
        gain: mean gain over the parent in nats per token, with its 95% interval; None without any.
        best: largest gain; None without any.
    """

    kind: str
    tried: int | None
    invalid: int | None
    known: int | None
    proposed: int
    new: int
    full: int
    stopped: int
    failed: int
    waiting: int
    compared: int
    improved: int
    gain: Estimate | None
    best: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def edit_kind_totals(digest: RunDigest) -> tuple[EditKindTotals, ...]:
    """Return the totals of every kind of edit of a run, the most proposed first.

    A candidate with a training to the end counts as trained in full, unless another of its trainings diverged.
    """
    counts = digest.table.query(
        f"SELECT kind, count(*), {', '.join(f'total(new AND {each})' for each in _ENDS)} FROM"
        " (SELECT *, same_as IS NULL AS new FROM candidates WHERE parent IS NOT NULL) GROUP BY kind"
    )
    gains: defaultdict[str, list[float]] = defaultdict(list)
    for kind, gain in digest.table.query(_GAINS):
        gains[kind].append(gain)
    tried: Mapping[str, Mapping[str, int]] = digest.proposals.get("kinds", {})
    ended = {kind: (proposed, *map(int, ends)) for kind, proposed, *ends in counts}
    totals = [_totals(kind, ended.get(kind, _NONE), tried.get(kind), gains[kind]) for kind in {**ended, **tried}]
    return tuple(sorted(totals, key=lambda each: (-each.proposed, each.kind)))


def _totals(kind: str, ended: Sequence[int], tried: Mapping[str, int] | None, gains: Sequence[float]) -> EditKindTotals:
    proposed, new, full, stopped, failed, waiting = ended
    return EditKindTotals(
        kind,
        *(None if tried is None else tried.get(name, 0) for name in ("tried", "invalid", "known")),
        proposed=proposed,
        new=new,
        full=full,
        stopped=stopped,
        failed=failed,
        waiting=waiting,
        compared=len(gains),
        improved=sum(gain > 0 for gain in gains),
        gain=mean_interval(gains) if gains else None,
        best=max(gains, default=None),
    )
