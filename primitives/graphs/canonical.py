"""Construction of the canonical graph: inline live calls, infer kinds and widths, repair widths, simplify, merge.

Repair inserts a learned CONV_1X1 where widths differ. The paper changes one of two unequal widths "pseudo-randomly but
deterministically". The rule here is our choice: resize the scalar if there is one, else the operand with the smaller
canonical hash. An output that is not as wide as the model is also resized.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from ..errors import InvalidProgramError
from ..ops.op_table import OPS, Op, WidthMatch
from ..ops.value_types import BLOCK_INPUT, Kind, Value, activation
from ..programs.liveness import live_values
from ..programs.program import DNA, Instruction
from .graph import CONCAT, INPUT, Graph, Node, canonical_order
from .rewrites import Term, simplify

__all__ = ["build_graph", "trace_values"]

REPAIR = "CONV_1X1"


def build_graph(dna: DNA, *, length_dependent: bool = False) -> Graph:
    """Return the canonical graph of a well-formed DNA.

    Args:
        dna: well-formed program.
        length_dependent: whether to allow ops that tie the block to one sequence length. The DNA's own flag allows
            them as well.

    Raises:
        InvalidProgramError: kinds that do not fit, or length dependence that is not allowed.
    """
    inliner = _Inliner(dna, _Builder(length_dependent or dna.length_dependent))
    builder = inliner.builder
    block_input = builder.input()
    output = inliner.run(0, block_input, block_input, _Context())
    value = builder.nodes[output].value
    if value.kind is Kind.SCORES:
        raise InvalidProgramError("kinds", "the output of the block must be an activation, not scores")
    if value != BLOCK_INPUT:
        output = builder.repair(output, BLOCK_INPUT, _Context(path=("output",), labels=("output",)))
    return canonical_order(builder.nodes, builder.hashes, builder.scopes, output)


def trace_values(
    dna: DNA, *, length_dependent: bool = False
) -> list[tuple[tuple[int | str, ...], Value, tuple[int, ...]]]:
    """Return the path, value and branch counts of each instruction that the program executes, calls included.

    The branch counts are those of the enclosing scopes, outermost first.

    Arguments and errors are those of `build_graph`.
    """
    tracer = _Tracer(dna, _Builder(length_dependent or dna.length_dependent))
    block_input = tracer.builder.input()
    tracer.run(0, block_input, block_input, _Context())
    nodes, scopes = tracer.builder.nodes, tracer.builder.scopes
    return [
        (path, nodes[index].value, tuple(scopes[scope] for scope in nodes[index].scope))
        for path, index in tracer.traced
    ]


class _Context(NamedTuple):
    """Context of an instruction: branch scopes, divisor of its dimensions, and the calls that lead to it."""

    scope: tuple[int, ...] = ()
    divisor: int = 1
    labels: tuple[str, ...] = ()
    path: tuple[int | str, ...] = ()


class _Inliner:
    """Adds the live instructions of a DNA to a builder, in order, with calls expanded."""

    def __init__(self, dna: DNA, builder: _Builder):
        self.dna = dna
        self.builder = builder
        self.live = live_values(dna)

    def run(self, index: int, h0: int, h1: int, context: _Context) -> int:
        subprogram, live = self.dna.subprograms[index], self.live[index]
        results: list[int] = [h0, h1]
        calls: dict[str, int] = {}
        for k, instruction in enumerate(subprogram.instructions):
            if k + 2 not in live:
                results.append(-1)
                continue
            callee = instruction.callee
            name = instruction.op if callee is None else self.dna.subprograms[callee].name
            label = _numbered(name.lower(), calls)
            here = _Context(context.scope, context.divisor, (*context.labels, label), (*context.path, k))
            first, second = results[instruction.in1], results[instruction.in2]
            try:
                if callee is None:
                    results.append(self._primitive(instruction, first, second, here))
                else:
                    results.append(self._call(callee, instruction.branches, first, second, here))
            except _Located:
                raise
            except InvalidProgramError as error:
                where = f"subprogram {index} ({subprogram.name}), instruction {k} ({instruction.op})"
                raise _Located(error.reason, f"{where}: {error}") from None
        return results[-1]

    def _call(self, callee: int, branches: int, first: int, second: int, context: _Context) -> int:
        if branches == 1:
            return self.run(callee, first, second, context)
        inner = self._branch(context, branches, divide=branches)
        return self.builder.concat(self.run(callee, first, second, inner), inner.scope[-1], branches)

    def _primitive(self, instruction: Instruction, first: int, second: int, context: _Context) -> int:
        branches, op = instruction.branches, OPS[instruction.op]
        constant = float(self.dna.constants[instruction.constant]) if op.uses_constant else None
        operands = (first, second) if op.operands == 2 else (first,)
        if op.uses_dimension:  # branches of a dense primitive are one wider primitive
            width = _width(self.dna.dimensions[instruction.dimension] * branches, context.divisor)
            return self.builder.add(op, operands, constant, width, context, parts=branches)
        if branches == 1:
            return self.builder.add(op, operands, constant, None, context)
        inner = self._branch(context, branches, divide=1)
        return self.builder.concat(self.builder.add(op, operands, constant, None, inner), inner.scope[-1], branches)

    def _branch(self, context: _Context, branches: int, divide: int) -> _Context:
        self.builder.scopes.append(branches)
        scope = (*context.scope, len(self.builder.scopes) - 1)
        return _Context(scope, context.divisor * divide, context.labels, context.path)


class _Tracer(_Inliner):
    """An inliner that records the node of each instruction."""

    def __init__(self, dna: DNA, builder: _Builder):
        super().__init__(dna, builder)
        self.traced: list[tuple[tuple[int | str, ...], int]] = []

    def _call(self, callee: int, branches: int, first: int, second: int, context: _Context) -> int:
        index = super()._call(callee, branches, first, second, context)
        self.traced.append((context.path, index))
        return index

    def _primitive(self, instruction: Instruction, first: int, second: int, context: _Context) -> int:
        index = super()._primitive(instruction, first, second, context)
        self.traced.append((context.path, index))
        return index


@dataclass
class _Builder:
    """The nodes added so far; each is simplified, merged with an equal node if there is one, and hashed."""

    length_dependent: bool
    nodes: list[Node] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    scopes: list[int] = field(default_factory=list)
    known: dict[tuple[object, ...], int] = field(default_factory=dict)

    def input(self) -> int:
        return self._append(Node(INPUT, (), BLOCK_INPUT))

    def add(
        self,
        op: Op,
        operands: tuple[int, ...],
        constant: float | None,
        width: Fraction | None,
        context: _Context,
        parts: int = 1,
    ) -> int:
        if op.width_match is not WidthMatch.FREE:
            operands = self._match(op, operands, context)
        values = [self.nodes[i].value for i in operands]
        value = op.result(values, width)
        if values[0].kind is Kind.SCORES and op.ties_scores_to_length and not self.length_dependent:
            raise InvalidProgramError(
                "length_dependent",
                "on scores, it ties the block to one sequence length; set `length_dependent = true` to allow it",
            )
        if op.parameters:
            return self._append(
                Node(op.name, operands, value, constant, context.scope, None, parts, context.labels, context.path)
            )
        return self._pure(op.name, operands, constant, value, context)

    def repair(self, operand: int, value: Value, context: _Context) -> int:
        """Add a learned CONV_1X1 that gives `operand` the width of `value`."""
        labels = (*context.labels[:-1], f"{context.labels[-1]}_resize")
        return self._append(Node(REPAIR, (operand,), value, None, context.scope, None, 1, labels, context.path))

    def concat(self, operand: int, scope: int, branches: int) -> int:
        """Add the node that joins the branches of a scope on the width."""
        node = self.nodes[operand]
        if node.value.kind is not Kind.ACTIVATION or node.value.width is None:
            raise InvalidProgramError("kinds", f"branches join activations on their width, not {node.value.kind.value}")
        value = activation(node.value.width * branches)
        inside = scope in node.scope
        key = (CONCAT, operand, scope if inside else branches)
        if key not in self.known:
            outer = node.scope[:-1] if inside else node.scope
            self.known[key] = self._append(
                Node(CONCAT, (operand,), value, None, outer, scope, 1, node.labels, node.path)
            )
        return self.known[key]

    def _match(self, op: Op, operands: tuple[int, ...], context: _Context) -> tuple[int, ...]:
        first, second = (self.nodes[i].value for i in operands)
        if first == second or first.kind is Kind.SCORES or second.kind is Kind.SCORES:
            return operands
        scalars = [value.kind is Kind.SCALAR for value in (first, second)]
        if any(scalars):
            if op.width_match is WidthMatch.UNLESS_SCALAR:
                return operands
            which = 0 if scalars[0] else 1
        else:
            which = 0 if self.hashes[operands[0]] < self.hashes[operands[1]] else 1
        there = _Context(context.scope, context.divisor, context.labels, (*context.path, f"in{which + 1}"))
        repaired = self.repair(operands[which], (second, first)[which], there)
        return (repaired, operands[1]) if which == 0 else (operands[0], repaired)

    def _pure(self, op: str, operands: tuple[int, ...], constant: float | None, value: Value, context: _Context) -> int:
        """Return a node without parameters: the simplified one, an equal one, or a new one."""
        if OPS[op].commutative:
            first, second = operands
            if (self.hashes[second], second) < (self.hashes[first], first):
                operands = (second, first)
        key = (op, operands, constant)
        if key in self.known:
            return self.known[key]
        simpler = simplify(op, operands, constant, self.nodes)
        index = None if simpler is None else self._term(simpler, context)
        if index is None or self.nodes[index].value != value:
            scope = max([self.nodes[i].scope for i in operands], key=len)
            index = self._append(Node(op, operands, value, constant, scope, None, 1, context.labels, context.path))
        self.known[key] = index
        return index

    def _term(self, term: Term, context: _Context) -> int:
        if isinstance(term, int):
            return term
        op, operands, constant = term
        indices = tuple(self._term(operand, context) for operand in operands)
        value = OPS[op].result([self.nodes[i].value for i in indices], None)
        return self._pure(op, indices, constant, value, context)

    def _append(self, node: Node) -> int:
        self.nodes.append(node)
        self.hashes.append(self._hash(node))
        return len(self.nodes) - 1

    def _hash(self, node: Node) -> bytes:
        constant = b"" if node.constant is None else struct.pack("<d", node.constant)
        branches = [self.scopes[s] for s in node.scope] if node.scope else []
        parts = [node.op.encode(), constant, f"|{node.value.width_text}|{branches}".encode()]
        for operand in node.inputs:
            parts.append(self.hashes[operand])
        return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


class _Located(InvalidProgramError):
    """An error whose message already names the instruction."""


@lru_cache(maxsize=1024)
def _width(units: int, divisor: int) -> Fraction:
    return Fraction(units, divisor)


def _numbered(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}_{seen[name]}"
