"""A folder that one process at a time works in, and that outlives a process that is killed there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["exclusive"]


@contextmanager
def exclusive(folder: Path) -> Iterator[Path | None]:
    """Make the folder if it is not there, wait until no other process works in it, and hold it.

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
        _lock(descriptor)
        yield folder if _is_still(folder, descriptor) else None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there, two builders are not told apart
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
