"""Totals by kind of edit: how many were proposed, how many of those trained to the end, and what they gained.

A child is mutated until its program is new; its kind is that of the last edit, which made it new. The gains are those
of children that trained their full budget, as did their parents. Most children are stopped before, because they look
worse, so the mean gain is that of the survivors, not of the kind.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...evolution.edit_kinds import edit_kind
from ..candidate_rows import ranking_losses
from ..statistics import Estimate, mean_interval

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["KindTotals", "operator_totals"]


@dataclass(frozen=True, slots=True)
class KindTotals:
    """Totals of one kind of edit.

    Attributes:
        kind: first words of the descriptions of its edits, such as `Insert`.
        tried, invalid, known: mutations tried, of these invalid ones, and valid ones that made no new program; None for
            runs of versions that did not count them, and for merges and reverts.
        proposed: children whose last edit is of this kind.
        new: those with a program that the run had not seen.
        full, stopped, failed: new ones that trained their full budget, that were stopped at a hurdle, and that ended
            otherwise.
        waiting: new ones without a result yet.
        compared: those with a full training, as their parents.
        improved: those of them with a lower loss than their parent.
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


def operator_totals(store: StoreReader) -> tuple[KindTotals, ...]:
    """Return the totals of every kind of edit of a run, the most proposed first."""
    with store.snapshot():
        candidates, results, counts = store.edits(), store.results(), store.proposals()
        losses = ranking_losses(store)
    outcomes = {number: outcome.partition(":")[0] for number, outcome, _ in results}
    tried = _sums(counts)
    children: defaultdict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    for number, parent, description, same_as in candidates:
        children[edit_kind(description)].append((number, parent, same_as is None))
    totals = [
        _totals(kind, children.get(kind, []), tried.get(kind), outcomes, losses) for kind in {**children, **tried}
    ]
    return tuple(sorted(totals, key=lambda each: (-each.proposed, each.kind)))


def _totals(
    kind: str,
    children: list[tuple[int, int, bool]],
    tried: Mapping[str, int] | None,
    outcomes: Mapping[int, str],
    losses: Mapping[int, float],
) -> KindTotals:
    new = [number for number, _, is_new in children if is_new]
    # A candidate with a training to the end counts as trained in full, even if a later training failed.
    ended = Counter("ok" if number in losses else outcomes.get(number, "waiting") for number in new)
    gains = [
        losses[parent] - losses[number]
        for number, parent, is_new in children
        if is_new and number in losses and parent in losses
    ]
    return KindTotals(
        kind,
        *(None if tried is None else tried.get(name, 0) for name in ("tried", "invalid", "known")),
        proposed=len(children),
        new=len(new),
        full=ended["ok"],
        stopped=ended["stopped_at_hurdle"],
        failed=len(new) - ended["ok"] - ended["stopped_at_hurdle"] - ended["waiting"],
        waiting=ended["waiting"],
        compared=len(gains),
        improved=sum(gain > 0 for gain in gains),
        gain=mean_interval(gains) if gains else None,
        best=max(gains, default=None),
    )


def _sums(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, Counter[str]]:
    """Return the counts of all proposals together, by kind of edit."""
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for proposal in counts:
        for kind, results in proposal.items():
            sums[kind].update(results)
    return dict(sums)
