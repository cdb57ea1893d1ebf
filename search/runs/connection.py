"""The SQLite connection of a run store: opening of its file, checks before each write, and messages for errors.

This is the only module that imports sqlite3.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ...primitives.errors import UsageError, WorkFailedError
from .run_directory import ControllerLock, RunDirectory, store_identity

__all__ = [
    "Connection",
    "WriteGuard",
    "check_complete",
    "explain_errors",
    "memory_connection",
    "new_run_file",
    "open_run_file",
]

APPLICATION_ID = 0x50524D53  # "PRMS", which distinguishes a run store from other SQLite files

Connection = sqlite3.Connection

_LAST = "SELECT coalesce(max(sequence), 0) FROM events"


def connect(path: Path, query: str, busy_seconds: float) -> Connection:
    """Open an SQLite file with the settings that all stores use. Without BEGIN, each statement commits by itself.

    Args:
        path: the SQLite file.
        query: query part of the file's URI, such as `mode=ro`.
        busy_seconds: longest wait while another program keeps the file locked.
    """
    uri = f"{path.absolute().as_uri()}?{query}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a result costs minutes of training, a sync milliseconds
        connection.execute("PRAGMA schema_version").fetchall()  # reads the file; fails if it is not SQLite's
    except BaseException:
        connection.close()
        raise
    return connection


def open_run_file(run: RunDirectory, read_only: bool, busy_seconds: float) -> Connection:
    """Open the store file of a run.

    Raises:
        UsageError: primer-search did not write the file.
    """
    try:
        connection = connect(run.store, "mode=ro" if read_only else "mode=rw", busy_seconds)
    except sqlite3.OperationalError:
        # Reading a write-ahead log needs a second file next to it, which cannot be made on a read-only disk. If there
        # is no log, the store file alone holds the whole run.
        if not read_only or Path(f"{run.store}-wal").exists():
            raise
        connection = connect(run.store, "mode=ro&immutable=1", busy_seconds)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.close()
        raise UsageError(f"{run.path} is not a run: its run.sqlite was not written by primer-search")
    return connection


@contextmanager
def new_run_file(run: RunDirectory, busy_seconds: float) -> Iterator[Connection]:
    """Create an SQLite file; it becomes the store of the run if the `with` block ends without an error."""
    # Built under another name, so that an incomplete store is never opened as a run.
    partial = run.path / "run.sqlite.partial"
    for leftover in run.path.glob(f"{partial.name}*"):
        leftover.unlink()
    with explain_errors(run):
        connection = connect(partial, "mode=rwc", busy_seconds)
    with closing(connection):
        with explain_errors(run):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        yield connection
    partial.rename(run.store)


def memory_connection() -> Connection:
    """Return a connection to a new database in memory. Any thread may use it, but only one at a time."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@contextmanager
def explain_errors(run: RunDirectory) -> Iterator[None]:
    """Raise SQLite's errors as errors of this package, with a remedy."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise ValueError(f"run {run.path} refuses this record: {error}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if "UTF-8" in str(error):  # the error for text that is not UTF-8 has no code
            code = sqlite3.SQLITE_CORRUPT
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(
                f"{run.path} is not a run: its run.sqlite is not an SQLite file; if it was one, "
                f"`primer-search repair {run.path}` recovers what can be read"
            ) from error
        raise WorkFailedError(
            _REMEDIES.get(code, "the store of run {run} failed: {error}.").format(run=run.path, error=error)
        ) from error


class WriteGuard:
    """Checks before each write that this process is the only writer of an open store.

    Args:
        run: directory of the run.
        connection: connection to the run's store.
        lock: lock by which this process may write; None: nothing is checked.
    """

    def __init__(self, run: RunDirectory, connection: Connection, lock: ControllerLock | None):
        self._run = run
        self._connection = connection
        self._lock = lock
        self._identity = store_identity(run)
        self._last = 0 if lock is None else self._last_event()

    def check_present(self) -> None:
        """Check that the path of the store still leads to the open file.

        Raises:
            WorkFailedError: the run was moved, deleted or replaced, so results would not be stored at its path.
        """
        if self._lock is not None and store_identity(self._run) != self._identity:
            raise WorkFailedError(
                f"run {self._run.path} was moved, deleted or replaced while it was written, so this process has "
                "stopped: if you moved the run, continue it with `primer-search resume NEW_PATH`"
            )

    def check_only_writer(self) -> None:
        """Check that this process wrote the last event. The lock alone is not enough: its file may be deleted.

        Raises:
            WorkFailedError: another process has written the run.
        """
        if self._lock is not None and (found := self._last_event()) != self._last:
            raise WorkFailedError(
                f"another process has written run {self._run.path} (its last event is {found}, not {self._last}): "
                f"this process has stopped; keep {self._run.lock.name} in the directory of a run"
            )

    def record(self, on_disk: bool) -> None:
        """Remember the last event after a transaction, and record it in the lock file if it is on disk."""
        if self._lock is not None:
            self._last = self._last_event()
            if on_disk:
                self._lock.record_event(self._last)

    def _last_event(self) -> int:
        with explain_errors(self._run):
            return self._connection.execute(_LAST).fetchone()[0]


def check_complete(run: RunDirectory, recorded: int, busy_seconds: float) -> None:
    """Check that a store has all events that were known to be on disk.

    Args:
        run: directory of the run.
        recorded: number of the last of these events.
        busy_seconds: longest wait while another program keeps the file locked.

    Raises:
        WorkFailedError: the store has lost its last events.
    """
    # Read-only: when a writable connection is closed, SQLite deletes a write-ahead log that it cannot read to its end.
    with closing(open_run_file(run, True, busy_seconds)) as connection:
        last = connection.execute(_LAST).fetchone()[0]
    if last < recorded:
        raise WorkFailedError(
            f"run {run.path} has lost its last {recorded - last} of {recorded} events: its write-ahead log "
            "(run.sqlite-wal) is missing or damaged, or the run was copied while it was written; copy it again, or "
            f"continue from event {last} with `primer-search repair {shlex.quote(str(run.path))}`"
        )


_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk that holds run {run} is full: make room, then `primer-search resume {run}`.",
    sqlite3.SQLITE_BUSY: "another program keeps run {run} locked: close it, then `primer-search resume {run}`.",
    sqlite3.SQLITE_READONLY: "the store of run {run} cannot be written: check its permissions.",
    sqlite3.SQLITE_CANTOPEN: "the store of run {run} cannot be opened: check the permissions of its folder.",
    sqlite3.SQLITE_CORRUPT: "the store of run {run} is damaged ({error}): `primer-search repair {run}` recovers "
    "what can be read.",
    sqlite3.SQLITE_IOERR: "the disk that holds run {run} failed ({error}): check that the disk is there and can be "
    "written, then `primer-search resume {run}`.",
}
