"""Compiled programs on disk, shared by the workers of a machine and by later runs.

A program that is trained again, such as the baseline, a leader or one that is confirmed, loads its training step in a
tenth of the time that its compilation takes. JAX keeps the cache, and removes what was used least recently. Code that
was compiled for one processor may not run on another, and its loops are divided among the cores of the process: each
kind of processor and number of cores has its own folder.
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
"""Compilations that take less are not kept. The programs of a brief training take 0.2 to 1 s each."""

UNUSED_DAYS = 30
"""Age at which the folder of another processor or version is removed."""

_log = logging.getLogger(__name__)


def compilation_cache_folder() -> Path:
    """Return the folder of this process's processor, number of cores and version of jaxlib."""
    name = f"jaxlib-{version('jaxlib')}-{processor_digest()}-{len(usable_cores())}-cores"
    return cache_folder("compiled") / name


def use_compilation_cache(mebibytes: int) -> None:
    """Have JAX keep the programs that this process compiles from now on. The user's own settings of JAX come first.

    Args:
        mebibytes: largest size of the folder; 0 keeps nothing.
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
