"""Basic edits of a DNA, from which mutations are built: insert, delete or replace an instruction.

All of them keep a program well-formed. References to later instructions shift, so that every reader keeps its operand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...primitives.programs.program import DNA, Instruction

__all__ = ["delete_instruction", "insert_instruction", "replace_instruction", "replace_item"]

T = TypeVar("T")


def delete_instruction(dna: DNA, subprogram: int, position: int, substitute: int) -> DNA:
    """Return the program without one instruction; its readers read the value `substitute` instead.

    The output is the last instruction. If it is deleted, the instruction before it becomes the output.
    """
    instructions = dna.subprograms[subprogram].instructions
    deleted = position + 2

    def renumbered(value: int) -> int:
        return substitute if value == deleted else value - (value > deleted)

    later = (_rewired(instruction, renumbered) for instruction in instructions[position + 1 :])
    return dna.with_instructions(subprogram, (*instructions[:position], *later))


def insert_instruction(dna: DNA, subprogram: int, position: int, instruction: Instruction) -> DNA:
    """Return the program with a new instruction that no other one reads yet; at the end it becomes the output."""
    instructions = dna.subprograms[subprogram].instructions

    def renumbered(value: int) -> int:
        return value + (value >= position + 2)

    later = (_rewired(other, renumbered) for other in instructions[position:])
    return dna.with_instructions(subprogram, (*instructions[:position], instruction, *later))


def replace_instruction(dna: DNA, subprogram: int, position: int, instruction: Instruction) -> DNA:
    """Return the program with another instruction at a position."""
    return dna.with_instructions(
        subprogram, replace_item(dna.subprograms[subprogram].instructions, position, instruction)
    )


def replace_item(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """Return the items with `item` at an index."""
    return (*items[:index], item, *items[index + 1 :])


def _rewired(instruction: Instruction, renumbered: Callable[[int], int]) -> Instruction:
    in1, in2 = renumbered(instruction.in1), renumbered(instruction.in2)
    if in1 == instruction.in1 and in2 == instruction.in2:
        return instruction
    return Instruction(instruction.op, in1, in2, instruction.constant, instruction.dimension, instruction.branches)
