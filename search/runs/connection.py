"""The SQLite connection of a run store: opening the file, and SQLite's errors as the package's own.

This is the only module that imports sqlite3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...primitives.errors import UsageError, WorkFailedError
from .run_directory import RunDirectory

__all__ = ["APPLICATION_ID", "Connection", "connect", "explain_errors", "memory_connection", "open_run_file"]

APPLICATION_ID = 0x50524D53  # "PRMS", which tells a run store from other SQLite files

Connection = sqlite3.Connection


def connect(path: Path, query: str, busy_seconds: float) -> Connection:
    """Open a file with the settings of every store; statements commit themselves unless BEGIN is executed.

    Args:
        path: the SQLite file.
        query: parameters of its URI, such as `mode=ro`.
        busy_seconds: longest wait for another program that locks the file.
    """
    uri = f"{path.absolute().as_uri()}?{query}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a result costs minutes of training, a sync milliseconds
        connection.execute("PRAGMA schema_version").fetchall()  # reads the file: other files fail here
    except BaseException:
        connection.close()
        raise
    return connection


def open_run_file(run: RunDirectory, read_only: bool, busy_seconds: float) -> Connection:
    """Open the store's file of a run.

    Raises:
        UsageError: primer-search did not write the file.
    """
    try:
        connection = connect(run.store, "mode=ro" if read_only else "mode=rw", busy_seconds)
    except sqlite3.OperationalError:
        # Reading a write-ahead log needs a file beside it; where none can be made (a read-only disk) and no log is left
        # behind, the file alone is the whole run.
        if not read_only or Path(f"{run.store}-wal").exists():
            raise
        connection = connect(run.store, "mode=ro&immutable=1", busy_seconds)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.close()
        raise UsageError(f"{run.path} is not a run: its run.sqlite was not written by primer-search")
    return connection


def memory_connection() -> Connection:
    """Return a database in memory, which any thread may use, one at a time."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@contextmanager
def explain_errors(run: RunDirectory) -> Iterator[None]:
    """Turn SQLite's errors into the package's own, with a remedy."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise ValueError(f"run {run.path} refuses this record: {error}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise UsageError(f"{run.path} is not a run: its run.sqlite is not an SQLite file") from error
        raise WorkFailedError(
            _REMEDIES.get(code, "the store of run {run} failed: {error}.").format(run=run.path, error=error)
        ) from error


_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk that holds run {run} is full: make room, then `primer-search resume {run}`.",
    sqlite3.SQLITE_BUSY: "another program keeps run {run} locked: close it, then `primer-search resume {run}`.",
    sqlite3.SQLITE_READONLY: "the store of run {run} cannot be written: check its permissions.",
    sqlite3.SQLITE_CANTOPEN: "the store of run {run} cannot be opened: check the permissions of its folder.",
    sqlite3.SQLITE_CORRUPT: "the store of run {run} is damaged ({error}): restore it from a copy.",
}
