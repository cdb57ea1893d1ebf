"""Counts with their nouns, as messages and tables write them: `1 worker`, `2,000 workers`."""

from __future__ import annotations

__all__ = ["pluralize"]


def pluralize(count: int, noun: str) -> str:
    """Return a count and its noun.

    >>> pluralize(1, "change"), pluralize(2000, "change")
    ('1 change', '2,000 changes')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
