"""A run that the dashboard shows. It is only read, also while a search writes it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..results.digest.run_digest import RunDigest
from ..runs.run_directory import RunDirectory
from ..runs.store import Store
from ..runs.store_reader import StoreReader

__all__ = ["ServedRun", "open_runs"]

_BUSY_SECONDS = 5.0

_READ_SECONDS = 0.25
"""Longest time that one request spends on reading new events of a run."""

_SLICE_SECONDS, _PAUSE_SECONDS = 0.05, 0.002
"""Time that the background thread reads at once, and its pause after that, in which requests are answered."""


class ServedRun:
    """A run that the dashboard shows.

    Args:
        key: name in URLs, unique among the served runs.
        directory: directory of the run.

    Attributes:
        key: name in URLs.
        directory: directory of the run.
    """

    def __init__(self, key: str, directory: RunDirectory):
        self.key = key
        self.directory = directory
        self._digest: RunDigest | None = None
        self._lock = threading.RLock()
        self._reader: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name on the pages: the name of the run's folder."""
        return self.directory.path.resolve().name

    @property
    def running(self) -> bool:
        """Whether a search is writing the run."""
        return self.directory.controller() is not None

    @contextmanager
    def digest(self) -> Iterator[tuple[RunDigest, StoreReader]]:
        """Open the store for one request, and update the run's digest for at most `_READ_SECONDS`.

        A background thread reads the rest of a long run. Until it has, `RunDigest.complete` is False.
        """
        with self._lock, self.read() as store:
            digest = self._digest = self._digest or RunDigest(store.manifest)
            reading = self._reader is not None and self._reader.is_alive()
            if not digest.update(store, 0.0 if reading else _READ_SECONDS) and not reading:
                name = f"reader of {self.key}"
                self._reader = threading.Thread(target=self._read_rest, args=(digest,), name=name, daemon=True)
                self._reader.start()
            yield digest, store

    def begin_reading(self) -> None:
        """Start to read the run before the first page is requested."""
        with self.digest():
            pass

    @property
    def events_read(self) -> int:
        """Number of the last event in the digest."""
        return 0 if self._digest is None else self._digest.last

    def _read_rest(self, digest: RunDigest) -> None:
        """Read the rest of the run in slices, then prepare for pages. Requests are answered between the slices."""
        complete = False
        while not complete:
            with self._lock, self.read() as store:
                complete = digest.update(store, _SLICE_SECONDS)
            time.sleep(_PAUSE_SECONDS)
        for prepare in digest.preparations():
            with self._lock:
                prepare()
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def read(self) -> Iterator[StoreReader]:
        """Open the store read-only for one request. All reads see the same state of the run."""
        with Store.open(self.directory.path, read_only=True, busy_seconds=_BUSY_SECONDS) as store, store.snapshot():
            yield store


def open_runs(paths: Sequence[str | Path]) -> dict[str, ServedRun]:
    """Return the runs by key, in the order of `paths`. A run that is named twice is served once.

    Raises:
        UsageError: a path is not a run that can be shown.
    """
    runs: dict[str, ServedRun] = {}
    for path in paths:
        with Store.open(path, read_only=True) as store:
            directory = store.run
        if any(directory.path.resolve() == known.directory.path.resolve() for known in runs.values()):
            continue
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.path.resolve().name).strip("-") or "run"
        key = next(key for number in range(1, len(runs) + 2) if (key := name + f"-{number}" * (number > 1)) not in runs)
        runs[key] = ServedRun(key, directory)
    return runs
