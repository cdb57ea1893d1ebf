"""Random draws that mutations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["choose", "draw_below", "draw_weighted"]

T = TypeVar("T")


def draw_below(bound: int, rng: np.random.Generator) -> int:
    """Return an integer from 0 to `bound - 1`, drawn uniformly."""
    return int(rng.integers(bound))


def choose(items: Sequence[T], rng: np.random.Generator) -> T:
    """Return one of the items, drawn uniformly."""
    return items[draw_below(len(items), rng)]


def draw_weighted(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    """Return an index drawn with given weights.

    It gives the same result as `rng.choice(len(p), p=p)`, which takes ten times as long because each call checks `p`.

    Args:
        cumulative: running sums of the weights.
        rng: random generator.
    """
    return int((cumulative / cumulative[-1]).searchsorted(rng.random(), side="right"))
