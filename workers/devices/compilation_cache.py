"""Cache of compiled programs on disk, shared by the workers of a machine and by later runs.

Some programs are trained again, such as the baseline and candidates that are confirmed. Loading their training step
takes a tenth of the time of compiling it. JAX manages the cache, and removes the least recently used programs. Code
that was compiled for one processor may not run on another, and compiled loops are divided among the cores of the
process. So each kind of processor and number of cores has its own folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ...system.host import processor_digest, usable_cores
from ...system.user_folders import cache_folder

__all__ = ["compilation_cache_folder", "use_compilation_cache"]

MIN_COMPILE_SECONDS = 0.1
"""Shortest compilation whose result is kept. The programs of a brief training take 0.2 to 1 s each."""

UNUSED_DAYS = 30
"""Days without use after which a folder is removed, such as that of another processor or version."""

_log = logging.getLogger(__name__)


def compilation_cache_folder() -> Path:
    """Return the cache folder for the processor, number of cores and jaxlib version of this process."""
    name = f"jaxlib-{version('jaxlib')}-{processor_digest()}-{len(usable_cores())}-cores"
    return cache_folder("compiled") / name


def use_compilation_cache(mebibytes: int) -> None:
    """Make JAX cache the programs that this process compiles from now on. A cache folder set by the user has priority.

    Args:
        mebibytes: largest size of the folder; 0 turns the cache off.
    """
    import jax

    if mebibytes == 0:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = compilation_cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    except OSError as error:
        _log.warning("compiled programs are not kept: %s cannot be written (%s)", folder, error.strerror)
        return
    _remove_unused(folder.parent)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", mebibytes * 2**20)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _remove_unused(root: Path) -> None:
    for other in root.iterdir():
        with suppress(FileNotFoundError):  # another worker may remove it at the same time
            if time.time() - other.stat().st_mtime > UNUSED_DAYS * 86_400:
                shutil.rmtree(other, ignore_errors=True)
