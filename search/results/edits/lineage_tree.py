"""The lineage tree of a run: its best candidates and all their ancestors, with the gain of each edit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...evolution.candidate import BASELINE_ID
from ..digest.ancestry_cache import AncestryReader
from ..digest.candidate_rows import candidate_rows
from ..digest.candidate_table import RANKED
from ..digest.run_digest import RunDigest
from ..leaderboard_rows import BaselineSummary, LeaderboardRow
from .edit_gains import EditGain, edit_gain

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["LineageTree", "TreeNode", "lineage_tree"]


LARGEST_TREE = 60
"""Number of candidates up to which all ancestors are shown."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A candidate of the tree.

    Attributes:
        id: number of the candidate.
        parents: its parent, or both parents of a merge; for parents left out, their nearest ancestors that are shown.
        mutations: edits that made it from its parent, or the origin of an initial program.
        row: row of its result; None without a result.
        gain: gain over its first parent; None unless both trained in full.
        place: place among the best candidates, from 1; None for a candidate that is only an ancestor.
        skipped: number of ancestors left out between its parents and itself.
    """

    id: int
    parents: tuple[int, ...]
    mutations: tuple[str, ...]
    row: LeaderboardRow | None
    gain: EditGain | None
    place: int | None
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class LineageTree:
    """The best candidates with their ancestors, in order of proposal.

    Attributes:
        baseline: results of the baseline.
        nodes: candidates, parents before children.
        initial_programs: origin of each imported initial program, by candidate id.
    """

    baseline: BaselineSummary
    nodes: tuple[TreeNode, ...]
    initial_programs: Mapping[int, str]


def lineage_tree(digest: RunDigest, store: StoreReader, top: int) -> LineageTree:
    """Return the tree of the `top` best candidates and the baseline.

    If it has more than `LARGEST_TREE` candidates, ancestors with one parent and one child in the tree are left out.
    """
    best = digest.table.ids(
        f"WHERE {RANKED} AND id != ? ORDER BY class, subclass, ranking, id LIMIT ?", (BASELINE_ID, top)
    )
    shown = _shown(best, digest.ancestry.reader(store))
    kept = _without_chains(shown, set(best)) if len(shown) > LARGEST_TREE else shown
    direct = {parent for number in kept for parent in shown[number]}
    found = candidate_rows(digest, store, {*kept, *direct})
    nodes = []
    for number in sorted(kept):
        parents, skipped = _nearest(number, shown, kept)
        parent = found.row(shown[number][0]) if shown[number] else None
        nodes.append(
            TreeNode(
                number,
                parents,
                found.ancestry[number].mutations,
                found.row(number),
                edit_gain(found.row(number), parent, found.baseline.noise_nats),
                best.index(number) + 1 if number in best else None,
                skipped,
            )
        )
    return LineageTree(found.baseline, tuple(nodes), found.initial_programs)


def _shown(best: Sequence[int], ancestry: AncestryReader) -> dict[int, tuple[int, ...]]:
    """Return the parents of the best candidates and of all their ancestors, by id."""
    shown: dict[int, tuple[int, ...]] = {}
    waiting = [*best, *([BASELINE_ID] if BASELINE_ID in ancestry else [])]
    while waiting:
        number = waiting.pop()
        if number not in shown:
            shown[number] = ancestry.parents(number)
            waiting += shown[number]
    return shown


def _without_chains(shown: Mapping[int, tuple[int, ...]], best: Set[int]) -> set[int]:
    """Return the candidates, except those outside `best` with one parent and one child."""
    children = Counter(parent for parents in shown.values() for parent in parents)
    return {number for number, parents in shown.items() if number in best or len(parents) != 1 or children[number] != 1}


def _nearest(
    number: int, shown: Mapping[int, tuple[int, ...]], kept: Set[int] | Mapping
) -> tuple[tuple[int, ...], int]:
    """Return the nearest kept ancestors of a candidate, and the number of those left out before it."""
    parents, skipped = [], 0
    for parent in shown[number]:
        while parent not in kept:
            (parent,) = shown[parent]
            skipped += 1
        parents.append(parent)
    return tuple(parents), skipped
