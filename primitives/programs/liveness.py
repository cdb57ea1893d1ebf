"""Liveness: the values that the output of a program depends on. All other instructions are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..ops.op_table import OPS
from .program import DNA, Instruction

__all__ = ["LiveValues", "OperandSlot", "live_values", "operand_slots", "operands_read", "same_live_code"]

OperandSlot = Literal["in1", "in2"]
"""A field of an instruction that names an operand."""

_SLOTS: dict[tuple[bool, bool], tuple[OperandSlot, ...]] = {
    (True, True): ("in1", "in2"),
    (True, False): ("in1",),
    (False, True): ("in2",),
    (False, False): (),
}
"""Operand fields, by whether the first and the second are read."""

LiveValues = frozenset[int]
"""Value indices of a subprogram: 0 and 1 are `h0` and `h1`, k + 2 is the output of instruction k."""


def live_values(dna: DNA) -> list[LiveValues]:
    """Return, for each subprogram, the values that its output depends on."""
    live: list[LiveValues] = [frozenset()] * len(dna.subprograms)
    for index in range(len(dna.subprograms) - 1, -1, -1):  # callees first: calls go to higher indices
        instructions = dna.subprograms[index].instructions
        value = len(instructions) + 1
        values = {value}
        for instruction in reversed(instructions):
            if value in values:
                op = OPS.get(instruction.op)
                if op is None:
                    values.update(operands_read(instruction, live))
                else:
                    values.add(instruction.in1)
                    if op.operands == 2:
                        values.add(instruction.in2)
            value -= 1
        live[index] = frozenset(values)
    return live


def same_live_code(one: DNA, other: DNA) -> bool:
    """Return whether two programs differ at most in dead instructions and ignored fields.

    Such programs have the same canonical graph, up to the `path` of nodes. The answer is false if the programs have
    different numbers of subprograms, or differ in a subprogram that is never called.
    """
    if len(one.subprograms) != len(other.subprograms) or one.length_dependent != other.length_dependent:
        return False
    same_banks = one.constants == other.constants and one.dimensions == other.dimensions
    live = live_values(one), live_values(other)
    for index, (first, second) in enumerate(zip(one.subprograms, other.subprograms, strict=True)):
        if same_banks and first.instructions == second.instructions:
            continue
        if _live_code(one, index, live[0]) != _live_code(other, index, live[1]):
            return False
    return True


def operands_read(instruction: Instruction, live: Sequence[LiveValues]) -> tuple[int, ...]:
    """Return the values that an instruction reads; for a call, the arguments that the callee's output depends on."""
    slots = operand_slots(instruction, live)
    if len(slots) == 2:
        return (instruction.in1, instruction.in2)
    return tuple([getattr(instruction, slot) for slot in slots])


def operand_slots(instruction: Instruction, live: Sequence[LiveValues]) -> tuple[OperandSlot, ...]:
    """Return the operand fields that an instruction reads, given the live values of each subprogram."""
    callee = instruction.callee
    if callee is None:
        return _SLOTS[True, OPS[instruction.op].operands == 2]
    return _SLOTS[0 in live[callee], 1 in live[callee]]


def _live_code(dna: DNA, index: int, live: Sequence[LiveValues]) -> list[tuple]:
    """Return the live instructions of a subprogram: op, branches, operands, constant and dimension, as far as read."""
    numbers = {0: 0, 1: 1}
    code = []
    for position, instruction in enumerate(dna.subprograms[index].instructions):
        if position + 2 in live[index]:
            numbers[position + 2] = len(numbers)
            op = OPS.get(instruction.op)
            operands = [numbers[operand] for operand in operands_read(instruction, live)]
            constant = float(dna.constants[instruction.constant]).hex() if op and op.uses_constant else None
            dimension = dna.dimensions[instruction.dimension] if op and op.uses_dimension else None
            code.append((instruction.op, instruction.branches, operands, constant, dimension))
    return code
