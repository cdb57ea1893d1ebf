"""Alignment of two programs: which subprograms, bank entries and instructions correspond to each other.

First, both programs are rewritten to *common terms*: one list of subprograms, and optionally one bank of constants and
one of dimensions. Subprograms with the same name correspond to each other. If the lists of names are equal, as they are
within a run, subprograms with the same index correspond. A subprogram that only one program has is added to the other.

Then the instructions of each pair of subprograms are aligned (see `instruction_alignment`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import UsageError
from ..programs.program import DNA, MAX_BANK_ENTRIES, Instruction
from .instruction_alignment import Field, Pair, align_instructions, reads_field

__all__ = ["AlignedSubprogram", "ProgramAlignment", "align_programs", "pair_by_name"]

Bank = Literal["constants", "dimensions"]


@dataclass(frozen=True, slots=True)
class AlignedSubprogram:
    """One subprogram of the common list, with its instructions in both programs.

    Attributes:
        indices: index of the subprogram in the first and in the second program.
        first, second: instructions in each program. Calls and bank indices are in common terms, operands are unchanged.
            Both are the same if only one program has the subprogram.
        positions: pairs of positions in `first` and `second`, in the order of both.
    """

    indices: Pair
    first: tuple[Instruction, ...]
    second: tuple[Instruction, ...]
    positions: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class ProgramAlignment:
    """Two programs rewritten to common terms, with their aligned instructions.

    Attributes:
        subprograms: the common subprograms, MAIN first; calls go to higher indices only.
        constants, dimensions: banks of the first and the second program, of the same length.
    """

    subprograms: tuple[AlignedSubprogram, ...]
    constants: tuple[tuple[float, ...], tuple[float, ...]]
    dimensions: tuple[tuple[int, ...], tuple[int, ...]]


def align_programs(first: DNA, second: DNA, shared_constants: bool, shared_dimensions: bool) -> ProgramAlignment:
    """Align two programs.

    Args:
        first, second: well-formed programs.
        shared_constants, shared_dimensions: whether to merge the banks. If true, both programs read one bank with the
            entries of both, and a changed value is a difference between instructions. If false, each program keeps
            its bank, and a changed value is a difference between banks.

    Raises:
        UsageError: banks that are not shared have different lengths, or a shared bank cannot hold all entries.
    """
    constants, constant_index = _common_bank(first, second, "constants", shared_constants)
    dimensions, dimension_index = _common_bank(first, second, "dimensions", shared_dimensions)
    common = _common_subprograms(first, second)
    subprograms = []
    for indices in common:
        bodies = []
        for side, dna in enumerate((first, second)):
            index = indices[side]
            if index is None:
                continue
            calls = {pair[side]: number for number, pair in enumerate(common)}
            banks = (constant_index, dimension_index) if side else ({}, {})
            bodies.append(tuple(_in_common_terms(i, calls, *banks) for i in dna.subprograms[index].instructions))
        positions = align_instructions(bodies[0], bodies[-1])
        subprograms.append(AlignedSubprogram(indices, bodies[0], bodies[-1], positions))
    return ProgramAlignment(tuple(subprograms), constants, dimensions)


def pair_by_name(first: DNA, second: DNA) -> list[tuple[int, int]]:
    """Return the pairs of indices of the subprograms whose name occurs exactly once in each program."""
    names = [[subprogram.name for subprogram in dna.subprograms] for dna in (first, second)]
    shared = [name for name in names[0] if names[0].count(name) == 1 == names[1].count(name)]
    return [(names[0].index(name), names[1].index(name)) for name in shared]


# --- one list of subprograms, one pair of banks ------------------------------------------------------------------


def _common_subprograms(first: DNA, second: DNA) -> tuple[Pair, ...]:
    """Return the common list of subprograms, ordered so that each call refers to a later one."""
    names = [[subprogram.name for subprogram in dna.subprograms] for dna in (first, second)]
    if names[0] == names[1]:
        return tuple((index, index) for index in range(len(names[0])))
    paired = [(0, 0), *((i, j) for i, j in pair_by_name(first, second) if i and j)]
    # If A calls B in one program and B calls A in the other, no order exists: then only MAIN is paired.
    order = _ordered(first, second, paired) or _ordered(first, second, [(0, 0)])
    assert order is not None  # MAIN is never called, and calls within one program are acyclic
    return order


def _ordered(first: DNA, second: DNA, paired: Sequence[tuple[int, int]]) -> tuple[Pair, ...] | None:
    """Return all subprograms, callers before callees and otherwise in program order; None if no order exists."""
    left = [(i, None) for i in range(len(first.subprograms)) if i not in {pair[0] for pair in paired}]
    right = [(None, j) for j in range(len(second.subprograms)) if j not in {pair[1] for pair in paired}]
    pairs: list[Pair] = [*paired, *left, *right]
    waiting = {pair: _callers(first, second, pair, pairs) for pair in sorted(pairs, key=_rank)}
    order: list[Pair] = []
    while waiting:
        ready = next((pair for pair, callers in waiting.items() if callers <= set(order)), None)
        if ready is None:
            return None
        order.append(ready)
        del waiting[ready]
    return tuple(order)


def _rank(pair: Pair) -> tuple[int, bool]:
    return max(index for index in pair if index is not None), pair[0] is None


def _callers(first: DNA, second: DNA, callee: Pair, pairs: Sequence[Pair]) -> set[Pair]:
    def calls(dna: DNA, caller: int | None, number: int | None) -> bool:
        if caller is None or number is None:
            return False
        return any(instruction.callee == number for instruction in dna.subprograms[caller].instructions)

    return {pair for pair in pairs if calls(first, pair[0], callee[0]) or calls(second, pair[1], callee[1])}


def _common_bank(first: DNA, second: DNA, name: Bank, shared: bool) -> tuple[tuple[tuple, tuple], dict[int, int]]:
    """Return both banks, and the new index of each entry that the second program reads."""
    old, new = getattr(first, name), getattr(second, name)
    if not shared:
        if len(old) != len(new):
            raise UsageError(f"the programs have banks of different length: {len(old)} and {len(new)} {name}")
        return (old, new), {}
    field: Field = "constant" if name == "constants" else "dimension"
    instructions = (i for subprogram in second.subprograms for i in subprogram.instructions)
    read = {getattr(instruction, field) for instruction in instructions if reads_field(instruction, field)}
    bank, moved = list(old), dict.fromkeys(range(len(new)), 0)
    for index in sorted(read):
        value = new[index]
        if index < len(old) and _same(old[index], value):
            moved[index] = index
            continue
        place = next((at for at, entry in enumerate(bank) if _same(entry, value)), len(bank))
        if place == len(bank):
            bank.append(value)
        moved[index] = place
    if len(bank) > MAX_BANK_ENTRIES:
        raise UsageError(
            f"the two programs together read {len(bank)} {name}, but a bank holds at most {MAX_BANK_ENTRIES}"
        )
    return (tuple(bank), tuple(bank)), moved


def _same(one: float, other: float) -> bool:
    return repr(one) == repr(other)  # -0.0 and 0.0 differ, as in the structure hash


def _in_common_terms(
    instruction: Instruction,
    calls: Mapping[int | None, int],
    constants: Mapping[int, int],
    dimensions: Mapping[int, int],
) -> Instruction:
    callee = instruction.callee
    return replace(
        instruction,
        op=instruction.op if callee is None else f"call:{calls[callee]}",
        constant=constants.get(instruction.constant, instruction.constant),
        dimension=dimensions.get(instruction.dimension, instruction.dimension),
    )
