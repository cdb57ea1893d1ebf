"""A run that the dashboard shows, read-only, also while a search writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..runs.run_directory import RunDirectory
from ..runs.store import Store
from ..runs.store_reader import StoreReader

__all__ = ["ServedRun", "open_runs"]

_BUSY_SECONDS = 5.0


class ServedRun:
    """A run that is shown.

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

    @property
    def name(self) -> str:
        """Name for people."""
        return self.directory.path.resolve().name

    @property
    def running(self) -> bool:
        """Whether a search is writing the run."""
        return self.directory.controller() is not None

    @contextmanager
    def read(self) -> Iterator[StoreReader]:
        """Open the store read-only for one request; all reads see one state of the run."""
        with Store.open(self.directory.path, read_only=True, busy_seconds=_BUSY_SECONDS) as store, store.snapshot():
            yield store


def open_runs(paths: Sequence[str | Path]) -> dict[str, ServedRun]:
    """Return the runs by key, in order, after a test that each can be opened; a run named twice is served once.

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
