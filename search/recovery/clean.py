"""Sizes of runs and of the cache, and deletion of files that are not needed or can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...primitives.errors import UsageError
from ...system.user_folders import cache_folder
from ..runs.run_directory import RunDirectory

__all__ = ["CACHE", "Part", "cache_parts", "delete", "run_parts"]

CACHE = {
    "compiled": "compiled programs, made again when they are needed",
    "data": "prepared texts, made again by a search",
}
"""Folders of the cache that can be deleted."""

_LEFTOVERS = ("run.sqlite.partial*", ".repair", ".[!.]*.[0-9a-f]*")
"""Files that a killed process may leave in a run."""


@dataclass(frozen=True, slots=True)
class Part:
    """Files of a run or of the cache.

    Attributes:
        name: description of the files.
        paths: files and folders.
        size_bytes: their size.
        removable: whether `clean` deletes them.
    """

    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    removable: bool


def run_parts(run: RunDirectory) -> list[Part]:
    """Return the parts of a run's directory that exist; each file belongs to one part."""
    left = set(run.path.iterdir())
    rows = (
        ("leftovers of a process that was killed", _LEFTOVERS, True),
        ("copies of a damaged store", ("damaged-*",), True),
        ("store", ("run.sqlite*",), False),
        ("log", ("run.log*",), False),
        ("trained weights", ("weights",), False),
        ("reports", ("report*",), False),
    )
    parts = []
    for name, patterns, removable in rows:
        found = sorted(left & {path for pattern in patterns for path in run.path.glob(pattern)})
        left.difference_update(found)
        parts.append(_part(name, found, removable))
    parts.append(_part("other files", sorted(left), False))
    return [part for part in parts if part.paths]


def cache_parts() -> list[Part]:
    """Return the parts of the cache that exist."""
    folders = ((words, cache_folder(name)) for name, words in CACHE.items())
    return [_part(words, [folder], True) for words, folder in folders if folder.exists()]


def delete(part: Part, run: RunDirectory | None = None) -> None:
    """Delete a part.

    Args:
        part: removable part.
        run: run that the part belongs to; None for the cache.

    Raises:
        UsageError: the run is being written, or the files cannot be deleted.
    """
    if run is not None and (holder := run.controller()) is not None:
        raise UsageError(f"run {run.path} is being written by {holder}: clean it when it has ended")
    try:
        for path in part.paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot delete {error.filename}: {error.strerror}; check its permissions") from error


def _part(name: str, paths: list[Path], removable: bool) -> Part:
    return Part(name, tuple(paths), sum(size for path in paths for size in _sizes(path)), removable)


def _sizes(path: Path) -> Iterator[int]:
    with suppress(OSError):  # a file may be deleted meanwhile
        yield path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
        if path.is_dir() and not path.is_symlink():
            for inside in path.iterdir():
                yield from _sizes(inside)
