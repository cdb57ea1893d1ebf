"""Shapes and cost of each line of a program, over all calls of its subprogram.

Costs are those of the canonical graph, in which equal values are computed once. A line whose value is computed by
another line costs nothing. A call costs as much as the lines of the called subprogram cost in that call. So the lines
of MAIN sum to the cost of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..ops.value_types import Kind, Value
from ..programs.program import DNA
from .canonical import trace_values
from .cost import Cost, node_costs
from .graph import Graph

__all__ = ["LineCost", "line_costs"]


@dataclass(slots=True)
class LineCost:
    """Shapes and cost of one instruction.

    Attributes:
        shapes: shapes of its value over all calls, such as `[L, 64]` or, in eight branches, `[8, L, 8]`; L is the
            sequence length. Empty for a line that never runs.
        calls: number of times that a block executes it.
        parameters: learned scalars of one block.
        flops_per_token: forward floating-point operations of one block per position.
    """

    shapes: list[str] = field(default_factory=list)
    calls: int = 0
    parameters: int = 0
    flops_per_token: float = 0.0


def line_costs(dna: DNA, graph: Graph, unit: int, length: int) -> list[list[LineCost]]:
    """Return the cost of each instruction, by subprogram and position.

    Args:
        dna: the program.
        graph: its canonical graph.
        unit: channels per unit of width.
        length: sequence length.
    """
    lines = [[LineCost() for _ in subprogram.instructions] for subprogram in dna.subprograms]
    for path, value, branches in trace_values(dna, length_dependent=graph.length_dependent):
        *_, (subprogram, position) = _places(dna, path)
        line = lines[subprogram][position]
        line.calls += 1
        shape = _shape(value, branches, unit)
        if shape not in line.shapes:
            line.shapes.append(shape)
    for node, cost in zip(graph.nodes, node_costs(graph, unit, length), strict=True):
        for subprogram, position in _places(dna, node.path):
            _add(lines[subprogram][position], cost)
    return lines


def _add(line: LineCost, cost: Cost) -> None:
    line.parameters += cost.parameters
    line.flops_per_token += cost.flops_per_token


def _places(dna: DNA, path: tuple[int | str, ...]) -> Iterator[tuple[int, int]]:
    """Yield the subprogram and position of each instruction of a path: the enclosing calls and the instruction."""
    subprogram = 0
    if path == ("output",):  # the block's last resizing
        yield 0, len(dna.subprograms[0].instructions) - 1
        return
    for position in path:
        if isinstance(position, str):  # the resizing of an operand
            return
        yield subprogram, position
        callee = dna.subprograms[subprogram].instructions[position].callee
        subprogram = subprogram if callee is None else callee


def _shape(value: Value, branches: tuple[int, ...], unit: int) -> str:
    """Return the shape of a value without the batch axis."""
    width = "1" if value.width is None else f"{value.width * unit}"
    last = "L" if value.kind is Kind.SCORES else width
    return f"[{', '.join([*map(str, branches), 'L', last])}]"
