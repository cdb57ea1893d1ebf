"""Alignment of two bodies of instructions: which instructions correspond to each other.

The alignment with the lowest cost is chosen. An added or removed instruction costs about 1, and a changed op costs 1.5.
Any other changed field costs 1 if both instructions read it. Operands refer to other instructions, so an alignment is
needed to compare them. Therefore the alignment is computed in several rounds. Each compares the operands by the
alignment of the round before.

Reference: Needleman and Wunsch (1970), "A general method applicable to the search for similarities".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..ops.op_table import OPS
from ..programs.program import Instruction

__all__ = ["FIELDS", "Field", "Pair", "align_instructions", "reads_field"]

FIELDS: tuple[Field, ...] = ("op", "in1", "in2", "constant", "dimension", "branches")
Field = Literal["op", "in1", "in2", "constant", "dimension", "branches"]

Pair = tuple[int | None, int | None]
"""Indices of an instruction or subprogram in the first and the second program; None where a program lacks it."""

_ROUNDS = 4
_GAP = 1.01
"""Cost of an added or removed instruction. It is above 1, so that two changed fields of one instruction cost less than
a removal and an addition."""

_OTHER_OP = 1.5
"""Cost of a changed op. One costs less than a deletion and an insertion (2.02). Two in a row cost more (3.0), so an
instruction that only moved by one place is aligned with itself."""

_UNREAD = 1e-4
"""Cost of a changed field that one of the two instructions does not read. It only breaks ties."""


def align_instructions(first: Sequence[Instruction], second: Sequence[Instruction]) -> tuple[Pair, ...]:
    """Return the aligned pairs of positions, in the order of both bodies.

    Several alignments are computed, each with operands compared by the previous one, and the cheapest is returned.
    Calls and bank indices must be in common terms (see `program_alignment`); operands keep the numbers of their body.
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


_Fields = tuple[str, int, int, int, bool, bool, bool]
"""Op, constant, dimension and branches of an instruction; whether it reads `in2`, its constant and its dimension."""


_Operands = tuple[int, int]
"""Numbers of the aligned pairs that the operands of an instruction refer to; -2 and -1 for the inputs `h0`, `h1`."""


def _fields(instruction: Instruction) -> _Fields:
    op = OPS.get(instruction.op)
    fields = (instruction.op, instruction.constant, instruction.dimension, instruction.branches)
    if op is None:  # a call
        return (*fields, True, False, False)
    return (*fields, op.operands == 2, op.uses_constant, op.uses_dimension)


def _aligned_operands(
    first: Sequence[Instruction], second: Sequence[Instruction], pairs: Sequence[Pair]
) -> tuple[list[_Operands], list[_Operands]]:
    """Return, for each instruction, the numbers of the pairs that its operands refer to.

    An operand that refers to an instruction without a counterpart counts as the `in1` of that instruction.
    """
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
    """Return the cost of changing each instruction of the first body into each of the second.

    The loop over fields is unrolled for speed, because a guided search aligns the instructions of many mutations for
    each child that it trains.
    """
    costs = []
    rows = [(*fields, *read) for fields, read in zip(second, others, strict=True)]
    for (op, constant, dimension, branches, reads2, reads_c, reads_d), (in1, in2) in zip(first, operands, strict=True):
        row = []
        for other_op, other_c, other_d, other_branches, other2, also_c, also_d, other_in1, other_in2 in rows:
            cost = 0.0 if op == other_op else _OTHER_OP
            if in1 != other_in1:
                cost += 1.0
            if in2 != other_in2:
                cost += 1.0 if reads2 and other2 else _UNREAD
            if constant != other_c:
                cost += 1.0 if reads_c and also_c else _UNREAD
            if dimension != other_d:
                cost += 1.0 if reads_d and also_d else _UNREAD
            if branches != other_branches:
                cost += 1.0
            row.append(cost)
        costs.append(row)
    return costs


def _cheapest(costs: Sequence[Sequence[float]], columns: int) -> tuple[Pair, ...]:
    """Return the cheapest alignment of two sequences; among equal ones, deletions come before insertions."""
    rows = len(costs)
    table = [[(i + j) * _GAP for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(1, rows + 1):
        above, row = table[i - 1], table[i]
        diagonal, left = above[0], row[0]
        for j, cost in enumerate(costs[i - 1], start=1):
            up = above[j]
            least, deleted, inserted = diagonal + cost, up + _GAP, left + _GAP
            if deleted < least:
                least = deleted
            if inserted < least:
                least = inserted
            row[j] = left = least
            diagonal = up
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + costs[i - 1][j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif j and (not i or table[i][j] == table[i][j - 1] + _GAP):  # `not i`: rounding may break the equality there
            j -= 1
            pairs.append((None, j))
        else:
            i -= 1
            pairs.append((i, None))
    return tuple(reversed(pairs))
