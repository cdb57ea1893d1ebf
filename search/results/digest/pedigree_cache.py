"""The pedigree of a run of any length: the number of edits of every candidate, and what lineages need of the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...evolution.candidate import BASELINE_ID
from ...runs.records import Ancestor
from ...runs.store_reader import StoreReader
from ..lineage import LineageStep, newest_edits, trace_lineage

__all__ = ["PedigreeCache", "PedigreeReader"]

_MOST_KEPT = 20_000
"""Candidates that are kept in memory."""


class PedigreeCache:
    """What is known of the pedigree between requests."""

    def __init__(self) -> None:
        self._edits: dict[int, Mapping[str, Any]] = {}
        self._counts: dict[int, int] = {}
        self._kept: dict[int, Ancestor] = {}

    def add(self, candidates: Sequence[Ancestor], payloads: Mapping[int | None, Mapping[str, Any]]) -> None:
        """Add new candidates in order of proposal, with the payloads of their proposals."""
        for each in candidates:
            payload = payloads.get(each.id, {})
            if "edits" in payload:
                self._edits[each.id] = payload
                self._counts[each.id] = len(payload["edits"])
            else:
                before = 0 if each.parent is None else self._counts[each.parent]
                self._counts[each.id] = 0 if each.id == BASELINE_ID else before + 1
                self._keep(each)

    def edit_count(self, candidate_id: int) -> int:
        """Return the number of edits that lead to a candidate."""
        return self._counts[candidate_id]

    def reader(self, store: StoreReader) -> PedigreeReader:
        """Return the pedigree for one request."""
        return PedigreeReader(self, store)

    def find(self, store: StoreReader, candidate_id: int) -> Ancestor:
        """Return a candidate without its DNA."""
        if candidate_id not in self._kept:
            self._keep(store.ancestor(candidate_id, self._edits.get(candidate_id, {})))
        return self._kept[candidate_id]

    def _keep(self, candidate: Ancestor) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[candidate.id] = candidate

    def __len__(self) -> int:
        return len(self._counts)


class PedigreeReader(Mapping[int, Ancestor]):
    """The pedigree by candidate id, read from an open store."""

    def __init__(self, cache: PedigreeCache, store: StoreReader):
        self._cache, self._store = cache, store

    def __getitem__(self, candidate_id: int) -> Ancestor:
        return self._cache.find(self._store, candidate_id)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._cache)

    def lineage(self, candidate_id: int, newest: int | None = None) -> tuple[LineageStep, ...]:
        """Return the lineage of a candidate, or so many of its newest edits; merges have all."""
        if newest is None or self[candidate_id].merged_with is not None:
            return trace_lineage(self, candidate_id)
        return tuple(LineageStep(edit, self[edit].mutations) for edit in newest_edits(self, candidate_id, newest))
