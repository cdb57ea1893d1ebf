"""Places in a program that its output depends on: live edges and live instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...primitives.liveness import LiveValues, OperandSlot, live_values, operand_slots
from ...primitives.program import DNA

__all__ = ["Edge", "called_subprograms", "live_edges", "live_instructions"]


class Edge(NamedTuple):
    """An operand that the output of the program depends on.

    Attributes:
        subprogram: index of the subprogram.
        position: position of the reader; the number of instructions for the output of the subprogram.
        slot: operand of the reader; `in1` for the output.
        value: value index that it reads.
    """

    subprogram: int
    position: int
    slot: OperandSlot
    value: int


def live_edges(dna: DNA) -> list[Edge]:
    """Return all live edges of the subprograms that MAIN calls, directly or not, in program order."""
    live = live_values(dna)
    edges: list[Edge] = []
    for index in called_subprograms(dna, live):
        instructions = dna.subprograms[index].instructions
        for position, instruction in enumerate(instructions):
            if position + 2 in live[index]:
                for slot in operand_slots(instruction, live):
                    edges.append(Edge(index, position, slot, getattr(instruction, slot)))
        edges.append(Edge(index, len(instructions), "in1", len(instructions) + 1))
    return edges


def live_instructions(dna: DNA) -> list[tuple[int, int]]:
    """Return the subprogram and position of every instruction that the output depends on."""
    live = live_values(dna)
    return [
        (index, position)
        for index in called_subprograms(dna, live)
        for position in range(len(dna.subprograms[index].instructions))
        if position + 2 in live[index]
    ]


def called_subprograms(dna: DNA, live: Sequence[LiveValues]) -> list[int]:
    """Return the subprograms that the output depends on, in order."""
    called = {0}
    for index in range(len(dna.subprograms)):  # calls go to higher indices
        if index in called:
            for position, instruction in enumerate(dna.subprograms[index].instructions):
                if position + 2 in live[index] and instruction.callee is not None:
                    called.add(instruction.callee)
    return sorted(called)
