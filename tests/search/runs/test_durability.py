"""Which transactions wait for the disk, and what the lock says that the disk has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path, {}) as store:
        store.add_candidate(Candidate(0, TRANSFORMER, None, (), "root"))
        yield store


def test_only_transactions_that_cannot_be_made_again_wait_for_the_disk(store: Store) -> None:
    def synchronous() -> int:
        return store._execute("PRAGMA synchronous")[0][0]

    with store.transaction(durable=False):
        assert synchronous() == 1
    with store.transaction():
        assert synchronous() == 2
    store.never_wait_for_disk()
    with store.transaction():
        assert synchronous() == 0


def test_the_lock_names_the_last_event_that_the_disk_has(store: Store) -> None:
    before = store.run.last_event()
    with store.transaction(durable=False):
        store.add_candidate(Candidate(1, TRANSFORMER, 0, ("Mutate",), "child"))
    with store.transaction():
        pass  # writes nothing
    assert store.run.last_event() == before
    store.add_event("run_started")
    assert store.run.last_event() == store.last_sequence() > before
