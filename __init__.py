"""Discover better decoder blocks for language models, and import them as Flax modules.

    >>> from primer_search import DNA, OPS, library
    >>> library.get("PRIMER_EZ").subprograms[0].name
    'main'

Names are imported on first use, so that `primer-search --help` starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .primitives import DNA, OPS, library

__all__ = ["DNA", "OPS", "library"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "library":
        return import_module(".primitives.library", __name__)
    return getattr(import_module(".primitives", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
