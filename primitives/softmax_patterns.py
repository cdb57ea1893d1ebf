"""Where a program is a softmax: EXP -> (MASK ->) RED_SUM -> DIVIDE, as Primer writes it, no maximum subtracted.

Written so, it overflows once a score passes 88 in float32 and in bfloat16. A softmax does not change when one number is
subtracted from all the scores of a row, so whoever runs a program may subtract the row's largest visible score first.
The program stays what it is: the reference, the fingerprint and the causality proof read EXP as it stands, and only an
EXP that nothing but its softmax reads may be shifted. The results are equal but for rounding, for rows that overflow,
and for rows whose sum is below DIVIDE's guard of 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping

from .graph import Graph

__all__ = ["softmax_exponentials"]


def softmax_exponentials(graph: Graph) -> Mapping[int, bool]:
    """The EXP nodes that nothing but a softmax reads, and whether a MASK hides the future from it."""
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
    """Whether `weights` are read twice alone: by their sum over the last axis, and by their division by it."""
    users = readers.get(weights, [])
    sums = [index for index in users if graph.nodes[index].op == "RED_SUM"]
    quotients = [index for index in users if graph.nodes[index].op == "DIVIDE"]
    if len(users) != 2 or len(sums) != 1 or len(quotients) != 1:
        return False
    return graph.nodes[quotients[0]].inputs == (weights, sums[0]) and readers.get(sums[0]) == quotients
