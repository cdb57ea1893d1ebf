"""Detection of softmaxes: EXP -> (MASK ->) RED_SUM -> DIVIDE, as in Primer, without a subtracted maximum.

This form overflows once a score exceeds 88 in float32 or bfloat16. A softmax does not change when one number is
subtracted from all scores of a row, so compiled and exported programs subtract the row's largest visible score first.
Only an EXP that is read by nothing except its softmax may be shifted. The reference interpreter, the fingerprint and
the causality proof use the plain EXP. Results are equal up to rounding, except for rows that overflow and rows whose
sum is below DIVIDE's guard of 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping

from .graph import Graph

__all__ = ["softmax_exponentials"]


def softmax_exponentials(graph: Graph) -> Mapping[int, bool]:
    """Return the EXP nodes that only a softmax reads, and for each whether a MASK hides future keys."""
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for operand in node.inputs:
            readers.setdefault(operand, []).append(index)
    found: dict[int, bool] = {}
    for index, node in enumerate(graph.nodes):
        if node.op != "EXP":
            continue
        first = readers.get(index, [])
        masked = len(first) == 1 and graph.nodes[first[0]].op == "MASK"
        if _is_normalised(graph, readers, first[0] if masked else index):
            found[index] = masked
    return found


def _is_normalised(graph: Graph, readers: Mapping[int, list[int]], weights: int) -> bool:
    """Return whether exactly two nodes read `weights`: their sum over the last axis, and the division by that sum."""
    users = readers.get(weights, [])
    sums = [index for index in users if graph.nodes[index].op == "RED_SUM"]
    quotients = [index for index in users if graph.nodes[index].op == "DIVIDE"]
    if len(users) != 2 or len(sums) != 1 or len(quotients) != 1:
        return False
    return graph.nodes[quotients[0]].inputs == (weights, sums[0]) and readers.get(sums[0]) == quotients
