"""Provenance of a result: the command line, and the versions of the software that made it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["command_line", "versions"]

PACKAGES = (
    *("primer-search", "jax", "jaxlib", "flax", "optax", "numpy", "ray", "tokenizers"),
    *("jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu"),
)

_DRIVER = Path("/proc/driver/nvidia/version")
"""Version file of NVIDIA's kernel module; reading it does not open a device."""


def command_line() -> str:
    """Return the command line of this process, quoted for a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["primer-search" if program == "__main__.py" else program, *sys.argv[1:]])  # python -m


def versions() -> dict[str, str]:
    """Return the installed versions of Python, of the packages that affect results, and of the GPU driver."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    with suppress(OSError):
        if driver := re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", _DRIVER.read_text(encoding="utf-8")):
            found["nvidia-driver"] = driver[1]
    return found
