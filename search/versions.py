"""The versions a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform

__all__ = ["versions"]

PACKAGES = ("primer-search", "jax", "jaxlib", "flax", "optax", "numpy", "ray", "tokenizers")


def versions() -> dict[str, str]:
    """Of Python, and of the packages a result may depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
