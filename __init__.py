"""Discover better decoder blocks for language models, and import them as Flax modules.

    >>> from primer_search import DNA, OPS, library
    >>> library.get("PRIMER_EZ").subprograms[0].name
    'main'

A search from Python, and its results (docs/python.md):

    run = primer_search.start_search(budget="10m")
    block = run.best().flax_module()

Names are imported on first use, so that `primer-search --help` starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .interface.refinement import analyze, refine
    from .interface.run import Run, open_run
    from .interface.run_candidate import RunCandidate
    from .interface.start_search import start_search
    from .primitives import DNA, OPS
    from .primitives.programs import library

__all__ = ["DNA", "OPS", "Run", "RunCandidate", "analyze", "library", "open_run", "refine", "start_search"]

_MODULES = {
    "DNA": "primitives",
    "OPS": "primitives",
    "Run": "interface.run",
    "RunCandidate": "interface.run_candidate",
    "analyze": "interface.refinement",
    "open_run": "interface.run",
    "refine": "interface.refinement",
    "start_search": "interface.start_search",
}
"""Module that defines each name, except `library`, which is a module itself."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "library":
        return import_module(".primitives.programs.library", __name__)
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
