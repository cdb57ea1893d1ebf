"""Places in a program that its output depends on: live edges and live instructions."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from ...primitives.programs.liveness import LiveValues, OperandSlot, live_values, operand_slots
from ...primitives.programs.program import DNA

__all__ = ["Edge", "LiveCode"]


class Edge(NamedTuple):
    """An operand that the output of the program depends on.

    Attributes:
        subprogram: index of the subprogram.
        position: position of the instruction that reads the operand, which is the reader; for the output of the
            subprogram, the number of instructions.
        slot: operand field of the reader; `in1` for the output.
        value: index of the value that is read.
    """

    subprogram: int
    position: int
    slot: OperandSlot
    value: int


class LiveCode:
    """A program and its live places, which are found once for all mutations of the program.

    Attributes:
        dna: well-formed program.
    """

    def __init__(self, dna: DNA):
        self.dna = dna

    @cached_property
    def live(self) -> list[LiveValues]:
        """Values of each subprogram that its output depends on."""
        return live_values(self.dna)

    @cached_property
    def edges(self) -> list[Edge]:
        """All live edges of the subprograms that MAIN calls, directly or not, in program order."""
        edges: list[Edge] = []
        for index in self._called:
            instructions = self.dna.subprograms[index].instructions
            for position, instruction in enumerate(instructions):
                if position + 2 in self.live[index]:
                    for slot in operand_slots(instruction, self.live):
                        edges.append(Edge(index, position, slot, getattr(instruction, slot)))
            edges.append(Edge(index, len(instructions), "in1", len(instructions) + 1))
        return edges

    @cached_property
    def instructions(self) -> list[tuple[int, int]]:
        """Subprogram and position of every instruction that the output depends on."""
        return [
            (index, position)
            for index in self._called
            for position in range(len(self.dna.subprograms[index].instructions))
            if position + 2 in self.live[index]
        ]

    @cached_property
    def _called(self) -> list[int]:
        """The subprograms that the output depends on, in order."""
        called = {0}
        for index, subprogram in enumerate(self.dna.subprograms):  # calls go to higher indices
            if index in called:
                for position, instruction in enumerate(subprogram.instructions):
                    if position + 2 in self.live[index] and instruction.callee is not None:
                        called.add(instruction.callee)
        return sorted(called)
