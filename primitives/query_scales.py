"""The scale of queries, 1 / sqrt(head width), brought along when a program moves to another width.

A constant of the DNA is a number; it does not say what it was made of. Where the width is known at which it was right,
it can be told all the same: a C_MUL of what T_MAT_MUL compares, by 1 / sqrt(width of what is compared) to the last
digits, is the query scale of the seed; mutation draws constants from a continuum, and never hits that number. Left as
it is, it would be wrong for candidates at another width and right for the seed, and a ladder would measure that. One
that has mutated is no longer that number, and moves as it is: it is part of what was found.

References: Vaswani et al. 2017, section 3.2.1, on why scores are scaled by the width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from . import DNA, InvalidProgramError, build_graph
from .graph import Graph, Node

__all__ = ["query_scales", "rescale_queries"]

MOST_CONSTANTS = 16
"""Entries of a bank, at most."""


def rescale_queries(dna: DNA, unit: int, new_unit: int) -> DNA:
    """The program with its query scales as they are at another unit of width; itself if it has none.

    An entry of the bank that only query scales use is changed; one that others use too is left to them, and the query
    scales get an entry of their own. Where neither can be done alone, nothing is.

    Args:
        dna: a program.
        unit: channels in a unit of relative width, where its scales are right.
        new_unit: the same of the width it moves to.

    >>> from primer_search.primitives import library
    >>> refitted(library.get("PRIMER_EZ", 8), 8, 32) == library.get("PRIMER_EZ", 32)
    True
    """
    try:
        graph = build_graph(dna, length_dependent=True)
    except InvalidProgramError:
        return dna
    kinds = dict.fromkeys((node.constant, node.value.width) for node in _scale_nodes(graph, unit))
    for old, width in kinds:
        mine = [n for n in _scale_nodes(graph, unit) if (n.constant, n.value.width) == (old, width)]
        assert old is not None and width is not None
        new = 1.0 / math.sqrt(width * new_unit)
        wanted = _census(graph)
        wanted["C_MUL", old] -= len(mine)
        wanted["C_MUL", new] += len(mine)
        for changed in (_changed_in_place(dna, old, new), _redirected(dna, mine, new)):
            if changed is not None and _census(build_graph(changed, length_dependent=True)) == wanted:
                dna = changed
                break
    return dna


def _changed_in_place(dna: DNA, old: float, new: float) -> DNA:
    return replace(dna, constants=tuple(new if constant == old else constant for constant in dna.constants))


def _redirected(dna: DNA, scales: Sequence[Node], new: float) -> DNA | None:
    """The instructions of these nodes read a new entry of the bank; None where that is full."""
    if len(dna.constants) >= MOST_CONSTANTS:
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


def _census(graph: Graph) -> Counter[tuple[str, float | None]]:
    """How many nodes there are of each op and constant: what may differ by the query scales alone."""
    return Counter((node.op, node.constant) for node in graph.nodes)


def query_scales(graph: Graph, unit: int) -> list[int]:
    """Return the nodes that scale queries: C_MULs by 1 / sqrt(width) whose result T_MAT_MUL compares with keys."""
    compared = {node.inputs[0] for node in graph.nodes if node.op == "T_MAT_MUL"}
    return [index for index in sorted(compared) if _is_scale(graph.nodes[index], unit)]


def _scale_nodes(graph: Graph, unit: int) -> list[Node]:
    return [graph.nodes[index] for index in query_scales(graph, unit)]


def _is_scale(node: Node, unit: int) -> bool:
    if node.op != "C_MUL" or node.value.width is None or node.constant is None:
        return False
    return math.isclose(node.constant, float(node.value.width * unit) ** -0.5, rel_tol=1e-9)
