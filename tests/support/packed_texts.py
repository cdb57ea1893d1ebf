"""Several texts in one sequence: segment ids, and each text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["LENGTH", "SEGMENT_IDS", "alone", "texts_of"]

SEGMENT_IDS: Any = np.array([[0, 0, 0, 1, 1, 1, 1, 1], [4, 2, 2, 2, 2, 4, 4, 4], [7, 7, 7, 7, 7, 7, 7, 3]], np.int32)
"""Padding on the left and a text; three texts, of which two have the same id; a text and padding on the right."""

LENGTH = SEGMENT_IDS.shape[1]


def texts_of(ids: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The sequence and the positions of each text: a run of equal ids."""
    for row, of_row in enumerate(ids):
        cuts = [0, *(np.flatnonzero(np.diff(of_row)) + 1).tolist(), len(of_row)]
        yield from ((row, slice(begin, end)) for begin, end in pairwise(cuts))


def alone(apply: Callable[[np.ndarray], np.ndarray], x: np.ndarray, ids: np.ndarray = SEGMENT_IDS) -> np.ndarray:
    """The outputs of all texts of `x` [sequence, length, width], each computed in a sequence of its own."""
    y = np.empty_like(x)
    for row, positions in texts_of(ids):
        y[row, positions] = np.asarray(apply(x[row : row + 1, positions]))[0]
    return y
