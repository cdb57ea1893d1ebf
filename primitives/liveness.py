"""Which values of a program its output depends on; all other instructions are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .ops import OPS
from .program import DNA, Instruction

__all__ = ["LiveValues", "OperandSlot", "live_values", "operand_slots", "operands_read"]

OperandSlot = Literal["in1", "in2"]
"""A field of an instruction that names an operand."""

SLOTS: tuple[OperandSlot, ...] = ("in1", "in2")

LiveValues = frozenset[int]
"""Value indices of a subprogram: 0 and 1 are `h0` and `h1`, k + 2 is the output of instruction k."""


def live_values(dna: DNA) -> list[LiveValues]:
    """Return, for each subprogram, the values that its output depends on."""
    live: list[LiveValues] = [frozenset()] * len(dna.subprograms)
    for index in range(len(dna.subprograms) - 1, -1, -1):  # callees first: calls go to higher indices
        instructions = dna.subprograms[index].instructions
        values = {len(instructions) + 1}
        for position in range(len(instructions) - 1, -1, -1):
            if position + 2 in values:
                values.update(operands_read(instructions[position], live))
        live[index] = frozenset(values)
    return live


def operands_read(instruction: Instruction, live: Sequence[LiveValues]) -> tuple[int, ...]:
    """Return the values that an instruction reads; of a call, the arguments that the callee's output depends on."""
    return tuple(getattr(instruction, slot) for slot in operand_slots(instruction, live))


def operand_slots(instruction: Instruction, live: Sequence[LiveValues]) -> tuple[OperandSlot, ...]:
    """Return the operand fields that an instruction reads, given the live values of each subprogram."""
    callee = instruction.callee
    if callee is None:
        return SLOTS[: OPS[instruction.op].operands]
    return tuple(slot for argument, slot in enumerate(SLOTS) if argument in live[callee])
