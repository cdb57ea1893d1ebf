"""Suggestions for misspelt names: the remedy at the end of error messages, in all parts of the package."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["closest_match", "did_you_mean"]


def closest_match(word: str, known: Collection[str]) -> str | None:
    """Return the known name most similar to `word`, ignoring case, or None if none is similar."""
    names = {name.casefold(): name for name in known}
    found = get_close_matches(word[:64].casefold(), names, n=1)
    return names[found[0]] if found else None


def did_you_mean(word: str, known: Collection[str], otherwise: str | None = None) -> str:
    """Return the end of an error message that names a remedy for an unknown name.

    Args:
        word: the unknown name.
        known: the names to choose from.
        otherwise: the remedy if no known name is similar; None: the list of known names.

    >>> did_you_mean("latpop", ["laptop", "gpu"])
    '; did you mean laptop?'
    >>> did_you_mean("x", ["laptop", "gpu"])
    '; known are laptop, gpu'
    """
    match = closest_match(word, known)
    if match is not None:
        return f"; did you mean {match}?"
    remedy = f"known are {', '.join(known)}" if otherwise is None else otherwise
    return f"; {remedy}" if remedy else ""
