"""The program types: a DNA holds subprograms and two banks of numbers (Primer, section 2 and appendix A.1).

Subprogram 0 is MAIN. Each subprogram has two inputs, `h0` and `h1`, and a list of instructions; the last instruction
is its output. The op of an instruction is the name of a primitive or `call:K`, a call of subprogram K. K must be
higher than the caller's index, so that a DNA has no cycles. Operand index 0 is `h0`, 1 is `h1`, and k + 2 is the output
of instruction k. Instructions hold *indices* into the banks: instructions that share an entry change together.

These types hold any program. `validation` checks that it is well-formed; `canonical`, `causality_proof` and
`causality_test` check that it is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "BRANCHES",
    "DNA",
    "MAX_BANK_ENTRIES",
    "MAX_INLINED_INSTRUCTIONS",
    "MAX_SUBPROGRAMS",
    "RELATIVE_DIMENSIONS",
    "Instruction",
    "Subprogram",
]

RELATIVE_DIMENSIONS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
"""Widths of an instruction's output, in units (appendix A.1); the configuration sets the channels per unit."""

BRANCHES = (1, 2, 4, 8, 16)
"""Numbers of parallel copies of an instruction; their outputs are concatenated on the width (appendix A.1)."""

MAX_BANK_ENTRIES = 16
MAX_SUBPROGRAMS = 256
MAX_INLINED_INSTRUCTIONS = 4096


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a subprogram. Fields that the op does not use are ignored; mutations of such fields have no effect.

    Attributes:
        op: name of a primitive, or `call:K` for subprogram K.
        in1: index of the first operand.
        in2: index of the second operand.
        constant: index into the DNA's constants.
        dimension: index into the DNA's dimensions.
        branches: number of parallel copies, one of `BRANCHES`.
    """

    op: str
    in1: int = 0
    in2: int = 0
    constant: int = 0
    dimension: int = 0
    branches: int = 1

    @property
    def callee(self) -> int | None:
        """Index of the subprogram that this instruction calls, or None for a primitive."""
        return _callee(self.op)


@dataclass(frozen=True, slots=True)
class Subprogram:
    """A function of two inputs; its name is not part of the identity of the DNA."""

    name: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class DNA:
    """A program of one stackable decoder block, `[batch, length, width] -> [batch, length, width]`.

    Attributes:
        constants: bank of 1 to 16 finite numbers.
        dimensions: bank of 1 to 16 entries of `RELATIVE_DIMENSIONS`.
        subprograms: subprograms, MAIN first; calls go to higher indices only.
        length_dependent: whether ops that tie the block to one sequence length are allowed.
    """

    constants: tuple[float, ...]
    dimensions: tuple[int, ...]
    subprograms: tuple[Subprogram, ...]
    length_dependent: bool = False

    def with_instructions(self, subprogram: int, instructions: tuple[Instruction, ...]) -> DNA:
        """Return this DNA with the instructions of one subprogram replaced."""
        bank = list(self.subprograms)
        bank[subprogram] = Subprogram(bank[subprogram].name, instructions)
        return DNA(self.constants, self.dimensions, tuple(bank), self.length_dependent)


@lru_cache(maxsize=1024)
def _callee(op: str) -> int | None:
    return int(op[5:]) if op.startswith("call:") else None
