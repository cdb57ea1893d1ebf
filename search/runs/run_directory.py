"""The folder a run lives in: what its files are called, the lock of its one controller, the request to stop.

runs/20260314-150926-seed0/
    run.sqlite        the store
    controller.lock   held by the process that writes the run, which it names
    stop              present while somebody asks the controller to stop
    report.html       the last report
    run.log           the log
    weights/12/       what candidate 12 has learned, if somebody trained it for that
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.locks import try_lock

__all__ = [
    "RUNS",
    "ControllerLock",
    "RunDirectory",
    "create_run_directory",
    "default_run_name",
    "find_run",
    "new_run_directory",
]

RUNS = Path("runs")
"""Where runs go unless the user says otherwise."""

_LOCK_SECONDS = 0.2
"""How long to retry the lock, which `controller()` of another process may hold for an instant."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run."""

    path: Path

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.path / "run.sqlite"

    @property
    def report(self) -> Path:
        """The last report, one self-contained page."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """The log, as text."""
        return self.path / "run.log"

    @property
    def lock(self) -> Path:
        """The file the controller holds locked while it writes the run."""
        return self.path / "controller.lock"

    @property
    def stop_request(self) -> Path:
        """The file whose presence asks the controller to stop."""
        return self.path / "stop"

    def request_stop(self) -> None:
        """Ask the run's controller to stop; asking twice is asking once."""
        try:
            self.stop_request.touch()
        except OSError as error:
            raise UsageError(f"cannot ask run {self.path} to stop: {error.strerror}; check its permissions.") from error

    def stop_requested(self) -> bool:
        """Whether somebody asked; the controller polls this."""
        return self.stop_request.exists()

    def clear_stop(self) -> None:
        """Forget the request, once obeyed or when the run is resumed."""
        self.stop_request.unlink(missing_ok=True)

    def controller(self) -> str | None:
        """The process that is writing the run, in words; None if the run is idle."""
        try:
            file = os.open(self.lock, os.O_RDONLY)
        except OSError:
            return None
        try:
            return None if _lock(file, shared=True) else _holder(self.lock)
        finally:
            os.close(file)


class ControllerLock:
    """The right to write a run, held by one process at a time and given back when it dies, however it dies."""

    def __init__(self, run: RunDirectory):
        """Take the lock.

        Raises:
            UsageError: another controller holds it (the message names its process).
            WorkFailedError: the lock file cannot be written.
        """
        try:
            self._file: int | None = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WorkFailedError(
                f"cannot write in run {run.path}: {error.strerror}; check its permissions."
            ) from error
        try:
            if not _lock(self._file, timeout_seconds=_LOCK_SECONDS):
                raise UsageError(
                    f"run {run.path} is being written by {_holder(run.lock)}: wait for it, "
                    f"or end it with `primer-search stop {run.path}`."
                )
            os.ftruncate(self._file, 0)
            os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:
            self.release()
            raise WorkFailedError(f"cannot write in run {run.path}: {error.strerror}; make room for it.") from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; a second call does nothing. The file stays: removing it would race with a taker."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def default_run_name(seed: int, now: datetime) -> str:
    """The name of a run that the user did not name.

    >>> default_run_name(7, datetime(2026, 3, 14, 15, 9, 26))
    '20260314-150926-seed7'
    """
    return f"{now:%Y%m%d-%H%M%S}-seed{seed}"


def new_run_directory(seed: int, now: datetime, runs: Path = RUNS) -> RunDirectory:
    """Create a run directory under its default name, numbered on if two runs start in one second."""
    name = default_run_name(seed, now)
    for attempt in range(1, 1000):
        path = runs / (name if attempt == 1 else f"{name}-{attempt}")
        if not path.exists():
            return create_run_directory(path)
    raise UsageError(f"{runs / name} and 998 like it exist: name the run with --run-dir.")


def create_run_directory(path: Path) -> RunDirectory:
    """Create an empty directory for a run, or take one that is empty.

    Raises:
        UsageError: it holds something already, is a file, or cannot be made.
    """
    if (path / "run.sqlite").exists():
        raise UsageError(
            f"{path} holds a run already: go on with `primer-search resume {path}`, or choose another --run-dir."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot make the run directory {path}: {error.strerror}; choose another --run-dir."
        ) from error
    if occupied:
        raise UsageError(f"{path} is not empty: choose another --run-dir, or empty it first.")
    return RunDirectory(path)


def find_run(path: Path | str) -> RunDirectory:
    """The run a user names: its directory, the store in it, or its bare name under `runs/`.

    Raises:
        UsageError: the directory does not hold a run.
    """
    named = Path(path)
    try:
        for directory in (named, named.parent if named.name == "run.sqlite" else named, RUNS / named):
            if (directory / "run.sqlite").is_file():
                return RunDirectory(directory)
        exists = named.exists()
    except OSError as error:
        raise UsageError(f"cannot look for a run in {named}: {error.strerror}; check the path.") from error
    if not exists:
        raise UsageError(f"there is no run {named}: no such directory{_known_runs(RUNS)}.")
    raise UsageError(f"{named} is no run: it holds no run.sqlite{_known_runs(named if named.is_dir() else RUNS)}.")


def _known_runs(runs: Path) -> str:
    latest = max(runs.glob("*/run.sqlite"), key=lambda store: store.stat().st_mtime, default=None)
    return f"; the latest run under {runs} is {latest.parent}" if latest else "; start one with `primer-search`"


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"


def _lock(file: int, **options: Any) -> bool:
    try:
        return try_lock(file, **options)
    except OSError as error:
        raise WorkFailedError(
            f"this file system cannot lock files ({error.strerror}): keep runs on a local disk"
        ) from error
