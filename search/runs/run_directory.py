"""Directory of a run: its file names, the lock of its controller, and the stop request.

runs/20260314-150926-seed0/
    run.sqlite        the store
    controller.lock   locked while a process writes the run; contains its process id and host, and the last event
    stop              present while a stop is requested
    report.html       the last report
    run.log           the log
    weights/12/       weights of candidate 12, if they were trained
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.locks import try_lock
from ...system.user_folders import user_path

__all__ = [
    "RUNS",
    "ControllerLock",
    "RunDirectory",
    "create_run_directory",
    "default_run_name",
    "find_run",
    "is_run",
    "new_run_directory",
    "running_search",
    "store_identity",
]

RUNS = Path("runs")
"""Default parent directory of runs."""

_LOCK_SECONDS = 0.2
"""Time to retry taking the lock, because `controller()` in another process holds it for a moment."""


_BEFORE_STORE = ("controller.lock", "run.log", "run.sqlite.partial")
"""Prefixes of the names of files that a search makes before its store."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of the files of one run."""

    path: Path

    def weights(self, candidate: int) -> Path:
        """Return the folder of a candidate's trained weights."""
        return self.path / "weights" / str(candidate)

    @property
    def store(self) -> Path:
        """SQLite file of the run."""
        return self.path / "run.sqlite"

    @property
    def report(self) -> Path:
        """Latest report, a self-contained HTML page."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """Text log."""
        return self.path / "run.log"

    @property
    def lock(self) -> Path:
        """File that the controller keeps locked while it writes the run."""
        return self.path / "controller.lock"

    @property
    def stop_request(self) -> Path:
        """File whose existence asks the controller to stop."""
        return self.path / "stop"

    def request_stop(self) -> None:
        """Ask the run's controller to stop; repeated requests have no further effect."""
        try:
            self.stop_request.touch()
        except OSError as error:
            raise UsageError(f"cannot ask run {self.path} to stop: {error.strerror}; check its permissions") from error

    def stop_requested(self) -> bool:
        """Return whether a stop is requested; the controller polls this."""
        return self.stop_request.exists()

    def clear_stop(self) -> None:
        """Remove the stop request, after the run has stopped or when it resumes."""
        self.stop_request.unlink(missing_ok=True)

    def last_event(self) -> int:
        """Return the number of the last event known to be on disk; 0 if it is unknown."""
        try:
            found = re.search(rb"^event (\d{12})$", self.lock.read_bytes(), re.MULTILINE)
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def controller(self) -> str | None:
        """Return a description of the process that writes the run, or None."""
        try:
            file = os.open(self.lock, os.O_RDONLY)
        except OSError:
            return None
        try:
            return None if _lock(file, shared=True) else _holder(self.lock)
        finally:
            os.close(file)


class ControllerLock:
    """Lock for writing a run, held by one process at a time; the system releases it when the process ends.

    Its file also keeps the number of the last event known to be on disk. A store with fewer events has lost its
    write-ahead log, or was copied while it was written.

    Attributes:
        last_event: number of that event when the lock was taken; 0 if it is unknown.
    """

    def __init__(self, run: RunDirectory):
        """Take the lock.

        Raises:
            UsageError: another process, named in the message, holds the lock.
            WorkFailedError: the lock file cannot be written.
        """
        try:
            self._file: int | None = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WorkFailedError(f"cannot write in run {run.path}: {error.strerror}; check its permissions") from error
        try:
            if not _lock(self._file, timeout_seconds=_LOCK_SECONDS):
                raise UsageError(
                    f"run {run.path} is being written by {_holder(run.lock)}: wait for it, "
                    f"or end it with `primer-search stop {run.path}`"
                )
            self.last_event = run.last_event()
            holder = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
            self._event_offset = len(holder)
            os.ftruncate(self._file, 0)
            os.write(self._file, holder)
            self.record_event(self.last_event)
        except OSError as error:
            self.release()
            raise WorkFailedError(f"cannot write in run {run.path}: {error.strerror}; free some disk space") from error
        except BaseException:
            self.release()
            raise

    def record_event(self, sequence: int) -> None:
        """Write the number of the last event on disk. Its width is fixed, so this works even if the disk is full."""
        if self._file is not None:
            os.pwrite(self._file, f"event {sequence:012d}\n".encode(), self._event_offset)

    def release(self) -> None:
        """Release the lock; a second call has no effect. The file stays, because removing it would cause a race."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def default_run_name(seed: int, now: datetime) -> str:
    """Return the default name of a run.

    >>> default_run_name(7, datetime(2026, 3, 14, 15, 9, 26))
    '20260314-150926-seed7'
    """
    return f"{now:%Y%m%d-%H%M%S}-seed{seed}"


def new_run_directory(seed: int, now: datetime, runs: Path = RUNS) -> RunDirectory:
    """Create a run directory under its default name, with a number appended if that name is taken."""
    name = default_run_name(seed, now)
    for attempt in range(1, 1000):
        path = runs / (name if attempt == 1 else f"{name}-{attempt}")
        if not path.exists():
            return create_run_directory(path)
    raise UsageError(f"{runs / name} and {name}-2 to {name}-999 already exist: choose a name with --run-dir")


def create_run_directory(path: Path) -> RunDirectory:
    """Create the directory of a run. It may exist, empty or with files of a search that ended before it had a store.

    Raises:
        UsageError: the path is a file, the directory has other files, or it cannot be created.
    """
    if (path / "run.sqlite").exists():
        raise UsageError(
            f"{path} already holds a run: resume it with `primer-search resume {path}`, or choose another --run-dir"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(not file.name.startswith(_BEFORE_STORE) for file in path.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot create the run directory {path}: {error.strerror}; choose another --run-dir"
        ) from error
    if occupied:
        raise UsageError(f"{path} is not empty: choose another --run-dir, or empty it first")
    return RunDirectory(path)


def store_identity(run: RunDirectory) -> tuple[int, int] | None:
    """Return device and inode of the store's file, which change if another file replaces it; None without a file."""
    try:
        status = os.stat(run.store)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def running_search() -> RunDirectory | None:
    """Return a run under `runs/` that a process writes now, or None."""
    found = (RunDirectory(store.parent) for store in RUNS.glob("*/run.sqlite"))
    return next((run for run in found if run.controller() is not None), None)


def is_run(place: str) -> bool:
    """Return whether `place` is the directory of a run, or its name under `runs/`."""
    folders = (user_path(place), RUNS / place)
    return bool(place) and any(os.path.isfile(folder / "run.sqlite") for folder in folders)


def find_run(path: Path | str) -> RunDirectory:
    """Return the run that a user names by its directory, its store, or its name under `runs/`.

    Raises:
        UsageError: the directory does not hold a run.
    """
    named = user_path(path)
    try:
        for directory in (named, named.parent if named.name == "run.sqlite" else named, RUNS / named):
            if (directory / "run.sqlite").is_file():
                return RunDirectory(directory)
        exists = named.exists()
    except OSError as error:
        raise UsageError(f"cannot look for a run in {named}: {error.strerror}; check the path") from error
    if not exists:
        raise UsageError(f"unknown run {named}: no such directory{_known_runs(RUNS)}")
    raise UsageError(f"{named} is not a run: it has no run.sqlite{_known_runs(named if named.is_dir() else RUNS)}")


def _known_runs(runs: Path) -> str:
    latest = max(runs.glob("*/run.sqlite"), key=lambda store: store.stat().st_mtime, default=None)
    return f"; the latest run under {runs} is {latest.parent}" if latest else "; start one with `primer-search`"


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(errors="replace").partition("\n")[0].strip() or "another process"
    except OSError:
        return "another process"


def _lock(file: int, **options: Any) -> bool:
    try:
        return try_lock(file, **options)
    except OSError as error:
        raise WorkFailedError(
            f"this file system cannot lock files ({error.strerror}): keep runs on a local disk"
        ) from error
