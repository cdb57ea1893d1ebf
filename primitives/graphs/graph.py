"""The canonical dataflow graph of a DNA: calls inlined, dead code removed, equal subexpressions merged.

    DNA --inline--> nodes, simplified as they are added --order--> Graph, structure_hash

A branched call opens a *scope*. Nodes that depend on parameters inside the scope exist once per branch (a leading array
axis), and a CONCAT node joins the branches on the width. Nodes that do not depend on the branch are computed once,
outside the scope. `canonical` builds the graph; this module defines it, orders it and computes its identity.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..ops.op_table import OPS
from ..ops.value_types import Kind, Value

__all__ = ["CONCAT", "INPUT", "Graph", "Node", "canonical_order", "graph_readers", "smallest_unit"]

INPUT = "INPUT"
"""Pseudo-op of the block's input."""

CONCAT = "CONCAT"
"""Pseudo-op that joins the branches of a scope on the width, or repeats a value that does not depend on the branch."""


class Node(NamedTuple):
    """One value of the graph. Nodes are tuples, because a search creates thousands per second.

    Attributes:
        op: name of a primitive, INPUT or CONCAT.
        inputs: indices of the operands, all earlier nodes.
        value: kind and width of the result.
        constant: constant of a C_MUL, MAX or MIN, else None.
        scope: enclosing branch scopes, outermost first; indices into `Graph.scopes`.
        joins: scope that a CONCAT closes, else None.
        parts: number of branches of a dense primitive in the DNA. They are computed as one wider primitive, but each
            must be a whole number of channels. Not part of the identity.
        labels: names of the enclosing calls and of the op, for parameter names and printing. Not part of the identity.
        path: instruction indices of the enclosing calls and of the node, for error messages. Not part of the identity.
    """

    op: str
    inputs: tuple[int, ...]
    value: Value
    constant: float | None = None
    scope: tuple[int, ...] = ()
    joins: int | None = None
    parts: int = 1
    labels: tuple[str, ...] = ()
    path: tuple[int | str, ...] = ()

    @property
    def has_parameters(self) -> bool:
        """Whether the node owns learned arrays."""
        return self.op in OPS and bool(OPS[self.op].parameters)


@dataclass(frozen=True, eq=False)
class Graph:
    """A canonical program. Graphs with the same structure are equal.

    Attributes:
        nodes: nodes in post-order from the output; the last node is the output.
        scopes: number of branches of each scope.
        length_dependent: whether the program works at one sequence length only.
    """

    nodes: tuple[Node, ...]
    scopes: tuple[int, ...]
    length_dependent: bool = False

    @cached_property
    def structure_hash(self) -> str:
        """Hash of the canonical form: 32 hexadecimal digits."""
        text = "\n".join(_line(node, self.scopes) for node in self.nodes)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @cached_property
    def last_uses(self) -> tuple[tuple[int, ...], ...]:
        """For each node, those of its operands that no later node reads."""
        reader = {operand: index for index, node in enumerate(self.nodes) for operand in node.inputs}
        uses: list[list[int]] = [[] for _ in self.nodes]
        for operand, index in reader.items():
            uses[index].append(operand)
        return tuple(map(tuple, uses))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.structure_hash == other.structure_hash

    def __hash__(self) -> int:
        return hash(self.structure_hash)


def canonical_order(nodes: list[Node], hashes: list[bytes], scopes: list[int], output: int) -> Graph:
    """Return the graph of the nodes that the output depends on, renumbered in canonical order.

    Operands of commutative ops are ordered by hash. Operands with equal hashes (two projections of one input, for
    example) are ordered by a hash of their uses, so that their order in the program does not matter.
    """
    ordered = nodes
    if any(_ambiguous(node, hashes) for node in nodes):
        colours = _colours(nodes, hashes, output)
        ordered = [_order_operands(node, hashes, colours) for node in nodes]
    sequence = _post_order(ordered, output)
    renumbered = {old: new for new, old in enumerate(sequence)}
    scope_numbers: dict[int, int] = {}
    result = []
    for old in sequence:
        node = ordered[old]
        inputs, scope, joins = tuple([renumbered[i] for i in node.inputs]), node.scope, node.joins
        if scope or joins is not None:
            for opened in scope if joins is None else (*scope, joins):
                scope_numbers.setdefault(opened, len(scope_numbers))
            scope = tuple([scope_numbers[s] for s in scope])
            joins = None if joins is None else scope_numbers[joins]
        result.append(
            Node(node.op, inputs, node.value, node.constant, scope, joins, node.parts, node.labels, node.path)
        )
    return Graph(tuple(result), tuple(scopes[old] for old in scope_numbers), _ties_to_length(result))


def graph_readers(graph: Graph) -> dict[int, list[int]]:
    """Return the nodes that read each node; a node that reads another twice is repeated."""
    readers: dict[int, list[int]] = {index: [] for index in range(len(graph.nodes))}
    for index, node in enumerate(graph.nodes):
        for operand in node.inputs:
            readers[operand].append(index)
    return readers


def smallest_unit(graph: Graph, multiple_of: int = 4) -> int:
    """Return the smallest unit, a multiple of `multiple_of` channels, at which all widths are whole numbers."""
    widths = {(node.value.width, node.parts) for node in graph.nodes if node.value.width is not None}
    return math.lcm(multiple_of, *((width / parts).denominator for width, parts in widths))


def _ties_to_length(nodes: list[Node]) -> bool:
    on_scores = [node.op for node in nodes if node.inputs and nodes[node.inputs[0]].value.kind is Kind.SCORES]
    return any(op in OPS and OPS[op].ties_scores_to_length for op in on_scores)


def _ambiguous(node: Node, hashes: list[bytes]) -> bool:
    """Return whether the operands commute and are two different nodes with equal hashes."""
    if len(node.inputs) < 2:
        return False
    first, second = node.inputs
    return first != second and hashes[first] == hashes[second] and _commutes(node)


def _order_operands(node: Node, hashes: list[bytes], colours: dict[int, bytes]) -> Node:
    first, second = node.inputs if _ambiguous(node, hashes) else (0, 0)
    return node._replace(inputs=(second, first)) if colours.get(first, b"") > colours.get(second, b"") else node


def _commutes(node: Node) -> bool:
    return node.op in OPS and OPS[node.op].commutative


def _colours(nodes: list[Node], hashes: list[bytes], output: int) -> dict[int, bytes]:
    """Return a hash of the operands and uses of each live node, by colour refinement until the classes are stable."""
    colours = dict(enumerate(hashes))
    classes = 0
    while True:
        uses = _uses(nodes, colours, output)
        refined: dict[int, bytes] = {}
        for index in sorted(uses):
            operands = [refined[i] for i in nodes[index].inputs]
            operands = sorted(operands) if _commutes(nodes[index]) else operands
            refined[index] = _digest(colours[index], uses[index], *operands)
        if len(set(refined.values())) == classes:
            return refined
        colours, classes = refined, len(set(refined.values()))


def _uses(nodes: list[Node], colours: dict[int, bytes], output: int) -> dict[int, bytes]:
    """Return a hash of the uses of each live node: colours and uses of its consumers, and the operand position."""
    marks: dict[int, list[bytes]] = {output: [b"output"]}
    uses: dict[int, bytes] = {}
    for index in range(output, -1, -1):
        if index not in marks:
            continue
        uses[index] = _digest(*sorted(marks[index]))
        for slot, operand in enumerate(nodes[index].inputs):
            place = bytes([0 if _commutes(nodes[index]) else slot])
            marks.setdefault(operand, []).append(uses[index] + colours[index] + place)
    return uses


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


def _post_order(nodes: list[Node], output: int) -> list[int]:
    sequence: list[int] = []
    visited: set[int] = set()
    stack = [output]  # ~index: the operands of the node precede it in the sequence
    while stack:
        index = stack.pop()
        if index < 0:
            sequence.append(~index)
        elif index not in visited:
            visited.add(index)
            stack.append(~index)
            for operand in reversed(nodes[index].inputs):
                if operand not in visited:
                    stack.append(operand)
    return sequence


def _line(node: Node, scopes: tuple[int, ...]) -> str:
    constant = "" if node.constant is None else struct.pack("<d", node.constant).hex()
    inside = ",".join(f"{scope}x{scopes[scope]}" for scope in node.scope)
    joins = "" if node.joins is None else f"{node.joins}x{scopes[node.joins]}"
    return f"{node.op}|{node.inputs}|{node.value.width_text}|{constant}|{inside}|{joins}"
