"""A folder that one process at a time works in, and that outlives a process that is killed there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["delete_unheld", "exclusive", "scratch"]


@contextmanager
def exclusive(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Path | None]:
    """Make the folder if it is not there, wait until no other process works in it, and hold it.

    Args:
        folder: to hold.
        waiting: called if another process works in it.

    Yields:
        The folder, or None if another process has moved it away meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        if not _lock(descriptor, wait=False):
            waiting()
            _lock(descriptor)
        yield folder if _is_still(folder, descriptor) else None
    finally:
        os.close(descriptor)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """The folder for this process alone, once others are done with it; empty at first, and deleted in the end."""
    while True:
        with exclusive(folder) as held:
            if held is None:
                continue
            for left in held.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield held
            finally:
                shutil.rmtree(held, ignore_errors=True)
            return


def delete_unheld(folder: Path) -> None:
    """Delete a folder that `exclusive` made, unless a process works in it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        if _lock(descriptor, wait=False):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool = True) -> bool:
    """Whether this process holds the folder now."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there, two builders are not told apart
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
