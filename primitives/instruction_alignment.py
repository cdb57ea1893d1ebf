"""Alignment of two bodies of instructions: which instructions correspond to each other.

They are aligned at the lowest cost. An added or removed instruction costs about 1, a changed op 1.5, and any other
changed field that both instructions read 1. Operands refer to other instructions, so comparing them needs an alignment:
it is computed in a few rounds, each with the operands of the last.

Reference: Needleman and Wunsch (1970), "A general method applicable to the search for similarities".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .ops import OPS
from .program import Instruction

__all__ = ["FIELDS", "Field", "Pair", "align_instructions", "reads_field"]

FIELDS: tuple[Field, ...] = ("op", "in1", "in2", "constant", "dimension", "branches")
Field = Literal["op", "in1", "in2", "constant", "dimension", "branches"]

Pair = tuple[int | None, int | None]
"""Indices of an instruction or subprogram in the first and the second program; None where a program lacks it."""

_ROUNDS = 4
_GAP = 1.01
"""Cost of an added or removed instruction; above 1, so that two changed fields cost less than both together."""

_OTHER_OP = 1.5
"""Cost of a changed op: one costs less than a deletion and an insertion together (2.02), two in a row cost more."""

_UNREAD = 1e-4
"""Cost of a changed field that one of the instructions does not read: it only breaks ties."""


def align_instructions(first: Sequence[Instruction], second: Sequence[Instruction]) -> tuple[Pair, ...]:
    """Return the aligned pairs of positions, in the order of both bodies.

    Several alignments are computed, each with operands compared by the previous one, and the cheapest is returned.
    Calls and bank indices must be in common terms; operands stay those of each program.
    """
    if first == second:
        return tuple((position, position) for position in range(len(first)))
    fields = [_fields(instruction) for instruction in first], [_fields(instruction) for instruction in second]
    unknown = [(0, 0)] * len(first), [(0, 0)] * len(second)
    pairs = _cheapest(_costs(*fields, *unknown), len(second))
    best, least = pairs, float("inf")
    for _ in range(_ROUNDS):
        costs = _costs(*fields, *_aligned_operands(first, second, pairs))
        total = sum(_GAP if i is None or j is None else costs[i][j] for i, j in pairs)
        if total < least:
            best, least = pairs, total
        following = _cheapest(costs, len(second))
        if following == pairs:
            break
        pairs = following
    return best


def reads_field(instruction: Instruction, field: Field) -> bool:
    """Return whether an instruction's op uses a field; a call counts as using both operands."""
    if instruction.callee is not None:
        return field not in ("constant", "dimension")
    op = OPS[instruction.op]
    uses = {"in2": op.operands == 2, "constant": op.uses_constant, "dimension": op.uses_dimension}
    return uses.get(field, True)


class _Fields(NamedTuple):
    """Fields of an instruction other than its operands, and which of the optional ones it reads."""

    op: str
    constant: int
    dimension: int
    branches: int
    reads_in2: bool
    reads_constant: bool
    reads_dimension: bool


_Operands = tuple[int, int]
"""Pairs that the operands of an instruction belong to: numbers of aligned pairs; -2 and -1 for the inputs."""


def _fields(instruction: Instruction) -> _Fields:
    reads = [reads_field(instruction, field) for field in ("in2", "constant", "dimension")]
    return _Fields(instruction.op, instruction.constant, instruction.dimension, instruction.branches, *reads)


def _aligned_operands(
    first: Sequence[Instruction], second: Sequence[Instruction], pairs: Sequence[Pair]
) -> tuple[list[_Operands], list[_Operands]]:
    """Return the pairs that the operands refer to; for an instruction without a counterpart, the pair of its in1."""
    sides: tuple[dict[int, int], dict[int, int]] = ({0: -2, 1: -1}, {0: -2, 1: -1})
    for number, (i, j) in enumerate(pairs):
        if i is not None:
            sides[0][i + 2] = sides[0][first[i].in1] if j is None else number
        if j is not None:
            sides[1][j + 2] = sides[1][second[j].in1] if i is None else number
    old, new = (
        [(side[each.in1], side[each.in2]) for each in body] for side, body in zip(sides, (first, second), strict=True)
    )
    return old, new


def _costs(
    first: Sequence[_Fields], second: Sequence[_Fields], operands: Sequence[_Operands], others: Sequence[_Operands]
) -> list[list[float]]:
    """Return the cost of changing each instruction of the first body into each of the second."""
    return [
        [_cost(one, other, *read, *read_by_other) for other, read_by_other in zip(second, others, strict=True)]
        for one, read in zip(first, operands, strict=True)
    ]


def _cost(one: _Fields, other: _Fields, in1: int, in2: int, other_in1: int, other_in2: int) -> float:
    """Return the cost of the changed fields; a field that one instruction does not read costs 1e-4, to break ties."""
    cost = 0.0
    if one.op != other.op:
        cost += _OTHER_OP
    if in1 != other_in1:
        cost += 1.0
    if in2 != other_in2:
        cost += 1.0 if one.reads_in2 and other.reads_in2 else _UNREAD
    if one.constant != other.constant:
        cost += 1.0 if one.reads_constant and other.reads_constant else _UNREAD
    if one.dimension != other.dimension:
        cost += 1.0 if one.reads_dimension and other.reads_dimension else _UNREAD
    if one.branches != other.branches:
        cost += 1.0
    return cost


def _cheapest(costs: Sequence[Sequence[float]], columns: int) -> tuple[Pair, ...]:
    """Return the cheapest alignment of two sequences; among equal ones, deletions come before insertions."""
    rows = len(costs)
    table = [[(i + j) * _GAP for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(1, rows + 1):
        above, row, own = table[i - 1], table[i], costs[i - 1]
        for j in range(1, columns + 1):
            row[j] = min(above[j - 1] + own[j - 1], above[j] + _GAP, row[j - 1] + _GAP)
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + costs[i - 1][j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif j and (not i or table[i][j] == table[i][j - 1] + _GAP):  # sums of gaps are not exact
            j -= 1
            pairs.append((None, j))
        else:
            i -= 1
            pairs.append((i, None))
    return tuple(reversed(pairs))
