"""Costs and shapes of lines sum to those of the block and agree with the interpreter's graph."""

from __future__ import annotations

import pytest

from primer_search.primitives import OPS, build_graph
from primer_search.primitives.graphs.cost import block_cost, node_costs
from primer_search.primitives.graphs.line_costs import line_costs
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import LIBRARY, get

UNIT, LENGTH = 16, 32


@pytest.mark.parametrize("name", LIBRARY)
def test_lines_sum_to_the_block(name: str) -> None:
    dna = get(name, UNIT)
    graph = build_graph(dna, length_dependent=True)
    block, lines = block_cost(graph, UNIT, LENGTH), line_costs(dna, graph, UNIT, LENGTH)
    assert sum(line.parameters for line in lines[0]) == block.parameters
    assert sum(line.flops_per_token for line in lines[0]) == pytest.approx(block.flops_per_token)
    primitive = [
        line
        for subprogram, costs in zip(dna.subprograms, lines, strict=True)
        for instruction, line in zip(subprogram.instructions, costs, strict=True)
        if instruction.op in OPS
    ]
    assert sum(line.parameters for line in primitive) == block.parameters
    assert sum(line.flops_per_token for line in primitive) == pytest.approx(block.flops_per_token)
    nodes = node_costs(graph, UNIT, LENGTH)
    assert sum(cost.parameters for cost in nodes) == block.parameters


def test_shapes_show_branches_scores_and_scalars() -> None:
    dna = get("TRANSFORMER", UNIT)
    lines = line_costs(dna, build_graph(dna), UNIT, LENGTH)
    attention = [line.shapes for line in lines[1]]
    assert [line.shapes for line in lines[0]] == [["[L, 128]"]] * len(lines[0])
    assert attention[0] == ["[8, L, 16]"]
    assert ["[8, L, L]"] in attention
    names = [subprogram.name for subprogram in dna.subprograms]
    assert ["[8, L, 1]"] in [line.shapes for line in lines[names.index("softmax")]]


def test_a_dead_line_and_a_repeated_value_cost_nothing_and_a_resized_operand_counts() -> None:
    main = "a = SQUARE h0\nb = SQUARE h0\nc = EXP h0\nd = CONV_1X1 a width=16\ne = ADD d b"
    dna = assemble({"main": main}, {"zero": 0.0}, (8, 16))
    square, again, dead, wide, total = line_costs(dna, build_graph(dna), UNIT, LENGTH)[0]
    assert square.flops_per_token > 0 and again.flops_per_token == 0, "the second square is the first"
    assert (dead.shapes, dead.calls, dead.flops_per_token) == ([], 0, 0.0)
    assert wide.shapes == ["[L, 256]"] and wide.parameters == 128 * 256
    assert total.parameters > 0, "one operand is resized by a learned CONV_1X1"
