"""Detection of softmaxes: EXP -> (MASK ->) RED_SUM -> DIVIDE, as in Primer, without a subtracted maximum.

This form overflows once a score exceeds 88 in float32 or bfloat16. A softmax does not change when one number is
subtracted from all scores of a row, so compiled and exported programs subtract the row's largest visible score first.
An EXP may be shifted only if nothing except its softmax reads the result. The reference interpreter, the fingerprint
and the causality proof use the plain EXP. Results are equal up to rounding, except for rows that overflow, and for rows
whose sum is below 1e-6, the smallest divisor of DIVIDE.
"""

from __future__ import annotations

from collections.abc import Mapping

from .graph import Graph, graph_readers

__all__ = ["softmax_exponentials"]


def softmax_exponentials(graph: Graph) -> Mapping[int, bool]:
    """Return the EXP nodes that only a softmax reads, and for each whether a MASK hides future keys."""
    readers = graph_readers(graph)
    found: dict[int, bool] = {}
    for index, node in enumerate(graph.nodes):
        if node.op != "EXP":
            continue
        masked = len(readers[index]) == 1 and graph.nodes[readers[index][0]].op == "MASK"
        if _is_normalised(graph, readers, readers[index][0] if masked else index):
            found[index] = masked
    return found


def _is_normalised(graph: Graph, readers: Mapping[int, list[int]], weights: int) -> bool:
    """Return whether exactly two nodes read `weights`: their sum over the last axis, and the division by that sum."""
    users = readers[weights]
    sums = [index for index in users if graph.nodes[index].op == "RED_SUM"]
    quotients = [index for index in users if graph.nodes[index].op == "DIVIDE"]
    if len(users) != 2 or len(sums) != 1 or len(quotients) != 1:
        return False
    return graph.nodes[quotients[0]].inputs == (weights, sums[0]) and readers[sums[0]] == quotients
