"""The C library's memory allocator in processes that train (glibc only; elsewhere the functions do nothing).

XLA allocates the temporary buffer of a step before every step and frees it afterwards. By default, glibc then returns
the pages of the buffer to the system, and the system has to zero new pages for the next step. That takes a tenth to a
third of the CPU time of a step (`benchmarks/allocator.py`). With these functions freed pages stay with the process,
which returns them only on request.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

__all__ = ["allocator_environment", "keep_freed_memory", "return_freed_memory"]

_LARGEST = 2**31 - 1  # mallopt takes an int

_ARENAS = "MALLOC_ARENA_MAX"

_OPTIONS = {  # environment variable: number of the option in malloc.h, and value
    _ARENAS: (-8, 1),  # further arenas return blocks above 64 MiB, whatever the other options say
    "MALLOC_MMAP_THRESHOLD_": (-3, _LARGEST),
    "MALLOC_TRIM_THRESHOLD_": (-1, _LARGEST),
}


def allocator_environment(threads: int) -> dict[str, str]:
    """Return the environment variables that keep freed pages with a process, without variables that the user has set.

    With several threads, the limit of one arena is left out, because threads that share an arena wait for each other.
    """
    names = [name for name in _OPTIONS if threads == 1 or name != _ARENAS]
    return {name: str(_OPTIONS[name][1]) for name in names if name not in os.environ}


def keep_freed_memory() -> None:
    """Keep freed pages with this process, unless the user has set the options; call it before JAX makes its client."""
    if (set_option := getattr(_c_library(), "mallopt", None)) is not None:
        for name, (option, value) in _OPTIONS.items():
            if name not in os.environ:
                set_option(option, value)


def return_freed_memory() -> None:
    """Return all freed pages to the system."""
    if (trim := getattr(_c_library(), "malloc_trim", None)) is not None:
        trim(0)


@cache
def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows
        return None
