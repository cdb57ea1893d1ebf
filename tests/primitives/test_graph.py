"""Canonical graphs: when two are equal, and where each value is used last."""

from __future__ import annotations

from dataclasses import replace

from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.programs import library


def test_graphs_are_equal_if_their_structures_are_whatever_their_names() -> None:
    dna = library.PRIMER_EZ
    renamed = replace(dna, subprograms=tuple(replace(each, name=f"{each.name}_2") for each in dna.subprograms))
    one, other = build_graph(dna), build_graph(renamed)
    assert one.nodes[-1].labels != other.nodes[-1].labels or one.nodes != other.nodes
    assert one == other and hash(one) == hash(other)
    assert one != build_graph(library.TRANSFORMER)


def test_each_value_is_last_used_by_its_last_reader() -> None:
    graph = build_graph(library.TRANSFORMER)
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for operand in node.inputs:
            readers.setdefault(operand, []).append(index)
    found = {operand: index for index, operands in enumerate(graph.last_uses) for operand in operands}
    assert found == {operand: max(indices) for operand, indices in readers.items()}
