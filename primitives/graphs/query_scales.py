"""The query scale 1 / sqrt(head width), and its adjustment when a program moves to another width.

A constant of a DNA does not record what it was computed from. At the width for which it is correct, a query scale can
still be recognised: the first operand of T_MAT_MUL is a C_MUL by 1 / sqrt(width of that operand), equal to 9 digits.
Mutation draws constants from a continuous distribution, which practically never gives that number. Without adjustment,
candidates would have a wrong scale at another width, whereas the baseline is made for each width. A comparison at
several model sizes would then measure the wrong scale. A mutated scale is another number. It is part of the discovered
program and stays unchanged.

Reference: Vaswani et al. 2017, section 3.2.1, on why scores are scaled by the width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ..errors import InvalidProgramError
from ..programs.program import DNA, MAX_BANK_ENTRIES
from .canonical import build_graph
from .graph import Graph, Node

__all__ = ["query_scales", "rescale_queries"]


def query_scales(graph: Graph, unit: int) -> list[int]:
    """Return the nodes that scale queries by 1 / sqrt(width of the queries), at `unit` channels per unit of width."""
    compared = {node.inputs[0] for node in graph.nodes if node.op == "T_MAT_MUL"}
    return [index for index in sorted(compared) if _is_query_scale(graph.nodes[index], unit)]


def rescale_queries(dna: DNA, unit: int, new_unit: int) -> DNA:
    """Return the program with its query scales adjusted to another unit of width; unchanged if it has none.

    A bank entry that only query scales read is changed in place. If other instructions also read it, the query scales
    get a separate entry. If neither is possible, nothing changes.

    Args:
        dna: program.
        unit: channels per unit of width, for which the scales of the program are correct.
        new_unit: channels per unit of width that the scales are adjusted to.

    >>> from primer_search import library
    >>> rescale_queries(library.get("PRIMER_EZ", 8), 8, 32) == library.get("PRIMER_EZ", 32)
    True
    """
    try:
        graph = build_graph(dna, length_dependent=True)
    except InvalidProgramError:
        return dna
    scales = [graph.nodes[index] for index in query_scales(graph, unit)]
    for old, width in dict.fromkeys((node.constant, node.value.width) for node in scales):
        nodes = [node for node in scales if (node.constant, node.value.width) == (old, width)]
        assert old is not None and width is not None
        new = 1.0 / math.sqrt(width * new_unit)
        wanted = _op_counts(graph)
        wanted["C_MUL", old] -= len(nodes)
        wanted["C_MUL", new] += len(nodes)
        for changed in (_changed_in_place(dna, old, new), _with_own_entry(dna, nodes, new)):
            if changed is not None and _op_counts(build_graph(changed, length_dependent=True)) == wanted:
                dna = changed
                break
    return dna


def _changed_in_place(dna: DNA, old: float, new: float) -> DNA:
    return replace(dna, constants=tuple(new if constant == old else constant for constant in dna.constants))


def _with_own_entry(dna: DNA, scales: Sequence[Node], new: float) -> DNA | None:
    """Return the program with a new bank entry for these nodes, or None if the bank is full."""
    if len(dna.constants) >= MAX_BANK_ENTRIES:
        return None
    changed = replace(dna, constants=(*dna.constants, new))
    for node in scales:
        subprogram, place = 0, 0
        for depth, place in enumerate(node.path):
            if not isinstance(place, int):
                return None
            if depth + 1 < len(node.path):
                subprogram = dna.subprograms[subprogram].instructions[place].callee or 0
        instructions = list(changed.subprograms[subprogram].instructions)
        instructions[int(place)] = replace(instructions[int(place)], constant=len(dna.constants))
        changed = changed.with_instructions(subprogram, tuple(instructions))
    return changed


def _op_counts(graph: Graph) -> Counter[tuple[str, float | None]]:
    """Return the number of nodes of each op and constant; a rescaled program may differ in its query scales only."""
    return Counter((node.op, node.constant) for node in graph.nodes)


def _is_query_scale(node: Node, unit: int) -> bool:
    if node.op != "C_MUL" or node.value.width is None or node.constant is None:
        return False
    return math.isclose(node.constant, float(node.value.width * unit) ** -0.5, rel_tol=1e-9)
