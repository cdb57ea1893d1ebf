"""Locks on files and folders that the system releases when their process ends, even by SIGKILL.

These are `flock` locks on file descriptors. The `filelock` library is not used, for two reasons. It cannot lock a
folder by its path. It has exclusive locks only: of two programs that check at the same time whether a run has a
controller, each would take the lock of the other for a controller. Windows has no `flock`; there, nothing excludes a
second process.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["delete_unlocked_folder", "lock_folder", "scratch_folder", "try_lock"]

_RETRY_SECONDS = 0.05


def try_lock(descriptor: int, *, shared: bool = False, timeout_seconds: float = 0.0) -> bool:
    """Lock an open file or folder until its descriptor is closed; return False if another process holds it.

    Args:
        descriptor: open file or folder.
        shared: take a shared lock, which only an exclusive lock excludes, to check whether there is an exclusive lock.
        timeout_seconds: longest time of retries; infinity waits for the lock.

    Raises:
        OSError: this file system cannot lock, as with some network file systems.
    """
    try:
        import fcntl
    except ImportError:
        return True
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if timeout_seconds == math.inf:
        fcntl.flock(descriptor, mode)
        return True
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_SECONDS)


@contextmanager
def lock_folder(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Path | None]:
    """Make a folder if it is missing, wait until no other process holds it, and lock it.

    Args:
        folder: folder to lock.
        waiting: called once if another process holds the lock.

    Yields:
        The folder, or None if another process moved or deleted it in the meantime.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        if not try_lock(descriptor):
            waiting()
            try_lock(descriptor, timeout_seconds=math.inf)
        yield folder if _is_same(folder, descriptor) else None
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Lock a folder, empty it, and delete it afterwards."""
    while True:
        with lock_folder(folder) as locked:
            if locked is None:
                continue
            for leftover in locked.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            try:
                yield locked
            finally:
                shutil.rmtree(locked, ignore_errors=True)
            return


def delete_unlocked_folder(folder: Path) -> None:
    """Delete a folder that `lock_folder` made, unless a process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        if try_lock(descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_same(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
