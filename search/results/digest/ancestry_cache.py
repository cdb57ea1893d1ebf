"""Ancestry of a run: parents and edits of every candidate, in little memory for runs of any length."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...evolution.candidate import BASELINE_ID
from ...runs.records import Ancestor
from ...runs.store_reader import StoreReader
from ..lineage import LineageStep, trace_lineage

__all__ = ["AncestryCache", "AncestryReader"]

_MOST_KEPT = 20_000
"""Largest number of candidates that are kept as objects."""

_NONE = -1
"""Stored in place of the parent, for a candidate without one."""


class AncestryCache:
    """Parents and numbers of edits of all candidates, kept between requests in a few bytes for each."""

    def __init__(self) -> None:
        self._parents, self._counts = array("q"), array("q")  # by candidate id
        self._edits: dict[int, Mapping[str, Any]] = {}
        self._kept: dict[int, Ancestor] = {}

    def add(self, candidates: Sequence[Ancestor], payloads: Mapping[int | None, Mapping[str, Any]]) -> None:
        """Add new candidates in order of proposal, with the payloads of their proposals."""
        for each in candidates:
            payload = payloads.get(each.id, {})
            if "edits" in payload:
                self._edits[each.id] = payload
                count = len(payload["edits"])
            else:
                before = 0 if each.parent is None else self._counts[each.parent]
                count = 0 if each.id == BASELINE_ID else before + 1
                self._keep(each)
            self._parents.append(_NONE if each.parent is None else each.parent)
            self._counts.append(count)

    def edit_count(self, candidate_id: int) -> int:
        """Return the number of edits that lead to a candidate."""
        return self._counts[candidate_id]

    def edits(self, candidate_id: int, newest: int | None = None) -> list[int]:
        """Return the edits of a candidate, the oldest first, each as the id of the first candidate with it.

        Args:
            candidate_id: the candidate.
            newest: number of newest edits to return, found without a walk to the baseline; None: all edits.
        """
        edits: set[int] = set()
        while candidate_id not in self._edits and candidate_id != BASELINE_ID and len(edits) != newest:
            edits.add(candidate_id)
            candidate_id = self._parents[candidate_id]  # all its edits have lower ids
            if candidate_id == _NONE:
                break
        found = sorted(edits.union(self._edits.get(candidate_id, {}).get("edits", ())))
        return found if newest is None else found[max(len(found) - newest, 0) :]

    def reader(self, store: StoreReader) -> AncestryReader:
        """Return the ancestry by candidate id, read from an open store."""
        return AncestryReader(self, store)

    def find(self, store: StoreReader, candidate_id: int) -> Ancestor:
        """Return a candidate without its DNA."""
        if candidate_id not in self._kept:
            self._keep(store.ancestor(candidate_id, self._edits.get(candidate_id, {})))
        return self._kept[candidate_id]

    def parents(self, store: StoreReader, candidate_id: int) -> tuple[int, ...]:
        """Return the parent of a candidate, or both parents of a merge; () for a program without a parent."""
        parent = self._parents[candidate_id]
        merged_with = self.find(store, candidate_id).merged_with if candidate_id in self._edits else None
        return tuple(each for each in (parent, merged_with) if each not in (_NONE, None))

    def _keep(self, candidate: Ancestor) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[candidate.id] = candidate

    def __len__(self) -> int:
        return len(self._counts)


class AncestryReader(Mapping[int, Ancestor]):
    """Candidates without their DNA by id, read from the cache or from an open store."""

    def __init__(self, cache: AncestryCache, store: StoreReader):
        self._cache, self._store = cache, store

    def __getitem__(self, candidate_id: int) -> Ancestor:
        if candidate_id not in self:
            raise KeyError(candidate_id)
        return self._cache.find(self._store, candidate_id)

    def __contains__(self, candidate_id: object) -> bool:
        return isinstance(candidate_id, int) and 0 <= candidate_id < len(self)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._cache)

    def parents(self, candidate_id: int) -> tuple[int, ...]:
        """Return the parent of a candidate, or both parents of a merge; () for a program without a parent."""
        return self._cache.parents(self._store, candidate_id)

    def lineage(self, candidate_id: int, newest: int | None = None) -> tuple[LineageStep, ...]:
        """Return the lineage of a candidate.

        Args:
            candidate_id: the candidate.
            newest: number of newest edits to return; None: all edits. The lineage of a merge always has all.
        """
        if newest == 0:
            return ()
        if self[candidate_id].merged_with is not None:
            return trace_lineage(self, candidate_id)
        return tuple(LineageStep(edit, self[edit].mutations) for edit in self._cache.edits(candidate_id, newest))
