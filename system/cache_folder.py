"""The user's cache folder, which runs share: prepared text and compiled programs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """Return `$PRIMER_SEARCH_CACHE/name`, or `~/.cache/primer-search/name`."""
    root = os.environ.get("PRIMER_SEARCH_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "primer-search") / name
