"""Orphans: processes whose parent has ended."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["adopt_orphans"]


def adopt_orphans() -> None:
    """Adopt descendants whose parent ends (Linux only), so that `process_tree` still finds them below this process."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
