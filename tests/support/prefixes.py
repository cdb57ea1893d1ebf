"""Prefixes of packed texts, and a slow reference: each text alone, with a mask written out position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.graphs.interpreter import Compute, evaluate_reference

from .packed_texts import SEGMENT_IDS, texts_of

__all__ = ["PREFIX", "reference"]

PREFIX: Any = np.array([[1, 1, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 0]], bool)
"""The prefixes of the texts of `SEGMENT_IDS`: of a part, the whole or nothing of each."""


def reference(
    graph: Graph,
    parameters: Sequence[dict[str, np.ndarray]],
    x: np.ndarray,
    ids: np.ndarray = SEGMENT_IDS,
    prefix: np.ndarray = PREFIX,
) -> np.ndarray:
    """The outputs of every text in a sequence of its own, in float64."""
    y = np.empty(x.shape)
    for row, text in texts_of(ids):
        ends = np.flatnonzero(prefix[row, text])
        end = int(ends[-1]) + 1 if len(ends) else 0

        def masked(index: int, operands: Any, compute: Compute, end: int = end) -> np.ndarray:
            if graph.nodes[index].op != "MASK":
                return compute(operands)
            scores = np.array(operands[0])
            for i in range(scores.shape[-2]):
                for j in range(scores.shape[-1]):
                    if j > i and not (i < end and j < end):
                        scores[..., i, j] = 0
            return scores

        y[row, text] = evaluate_reference(graph, parameters, x[row : row + 1, text], masked)[0]
    return y
