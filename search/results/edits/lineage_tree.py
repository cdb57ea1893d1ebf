"""The tree of the winners: the best candidates of a run and all their ancestors, and what each edit brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...evolution.candidate import BASELINE_ID
from ..candidate_rows import ranking_losses, read_candidate_rows
from ..leaderboard_rows import BaselineSummary, LeaderboardRow
from .edit_gains import EditGain, edit_gain

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["LineageTree", "TreeNode", "lineage_tree"]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A candidate of the tree.

    Attributes:
        id: its number.
        parents: its parent, and the second one of a merge; empty at a root.
        mutations: edits of its parent, or the origin of an initial program.
        row: its result; None without one.
        gain: gain over its first parent; None unless both trained in full.
        place: place among the best of the tree, from 1; None for those that are only ancestors.
    """

    id: int
    parents: tuple[int, ...]
    mutations: tuple[str, ...]
    row: LeaderboardRow | None
    gain: EditGain | None
    place: int | None


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


def lineage_tree(store: StoreReader, top: int) -> LineageTree:
    """Return the tree of the `top` best candidates; without a ranked one, it has the baseline at most."""
    with store.snapshot():
        losses = ranking_losses(store)
        ranked = sorted((loss, number) for number, loss in losses.items() if number != BASELINE_ID)
        best = [number for _, number in ranked[:top]]
        found = read_candidate_rows(store, best)
    pedigree = found.pedigree
    shown: set[int] = set()
    waiting = [*best, *([BASELINE_ID] if BASELINE_ID in pedigree else [])]
    while waiting:
        number = waiting.pop()
        if number not in shown:
            shown.add(number)
            waiting += _parents(pedigree[number].parent, pedigree[number].merged_with)
    nodes = []
    for number in sorted(shown):
        candidate = pedigree[number]
        parents = _parents(candidate.parent, candidate.merged_with)
        parent = found.row(parents[0]) if parents else None
        gain = edit_gain(found.row(number), parent, found.baseline.noise_nats)
        place = best.index(number) + 1 if number in best else None
        nodes.append(TreeNode(number, parents, candidate.mutations, found.row(number), gain, place))
    return LineageTree(found.baseline, tuple(nodes), found.initial_programs)


def _parents(parent: int | None, merged_with: int | None) -> tuple[int, ...]:
    return tuple(number for number in (parent, merged_with) if number is not None)
