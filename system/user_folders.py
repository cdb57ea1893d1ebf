"""Folders of the user: paths that begin with `~`, and the cache that runs share."""

from __future__ import annotations

import os
from pathlib import Path

from ..primitives.errors import UsageError

__all__ = ["cache_folder", "user_path"]


def user_path(text: str | Path) -> Path:
    """Return a path that a user gave, with `~` replaced by a home folder; shells do not expand `--option=~/x`.

    Raises:
        UsageError: the home folder is unknown.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{text}: the home folder is unknown, because HOME is not set or this user is not: write the whole path"
        ) from None


def cache_folder(name: str) -> Path:
    """Return a folder of the cache.

    It is in `$PRIMER_SEARCH_CACHE`, `$XDG_CACHE_HOME/primer-search` or `~/.cache/primer-search`, the first that is set.

    Raises:
        UsageError: none is set, and the home folder is unknown.
    """
    if root := os.environ.get("PRIMER_SEARCH_CACHE"):
        return user_path(root) / name
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # relative paths are ignored: https://specifications.freedesktop.org/basedir
        return Path(shared) / "primer-search" / name
    try:
        return Path.home() / ".cache" / "primer-search" / name
    except RuntimeError:
        raise UsageError(
            "no folder for the cache: HOME is not set, and this user has no home folder: "
            "set PRIMER_SEARCH_CACHE to a folder that you can write"
        ) from None
