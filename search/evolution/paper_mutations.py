"""The six mutations of Primer (appendix A.2), each a function of a DNA and a source of randomness.

A mutation changes one thing, and every child is well-formed. A mutation is silent if it changes an unused field, or an
instruction that no output depends on. Silent mutations accumulate until a later one makes use of them.

Our choices, where the paper does not say: a subprogram is drawn uniformly, then an instruction in it, so that small
subprograms (the activation, the residual) change as often as large ones. Delete-and-Insert is a deletion, then an
insertion anywhere. A bank is drawn uniformly, then an entry. A new value differs from the old one. If a mutation does
not apply to a program, makes it too large (`MAX_INLINED_INSTRUCTIONS`) or changes nothing, a new type and mutation are
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...primitives.programs.pretty_printer import format_instruction, subprogram_label
from ...primitives.programs.program import BRANCHES, DNA, MAX_INLINED_INSTRUCTIONS, RELATIVE_DIMENSIONS, Instruction
from ...primitives.programs.validation import inlined_instruction_counts
from .program_edits import delete_instruction, insert_instruction, replace_instruction, replace_item
from .random_draws import choose, draw_below
from .vocabulary import PAPER, Vocabulary

__all__ = ["MUTATIONS", "Mutation", "MutationType", "mutate"]

Mutation = Callable[[DNA, np.random.Generator], tuple[DNA, str]]
"""A function that returns the child and a one-line description of the edit."""

MutationType = Callable[[DNA, np.random.Generator], "tuple[DNA, str] | None"]
"""A mutation that returns None if it does not apply to the program."""

_FIELDS = ("op", "in1", "in2", "constant", "dimension", "branches")
_REDRAWS = 100
_LARGEST = float(np.finfo(np.float32).max)


def mutate(dna: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Apply one mutation, with its type drawn uniformly.

    Args:
        dna: well-formed program.
        rng: random generator of the child; the same state gives the same child.
        vocabulary: ops to draw from, and plugin mutations, each of which is one more type.

    Returns:
        The child, which is well-formed and differs from its parent in one change, and a description of the change.
    """
    op_drawing = {name: partial(edit, vocabulary=vocabulary) for name, edit in _OP_DRAWING_MUTATIONS.items()}
    types = tuple({**MUTATIONS, **op_drawing, **vocabulary.mutations}.values())
    while True:  # terminates: a dimension of the bank can always change
        result = choose(types, rng)(dna, rng)
        if result is None or result[0] == dna:
            continue
        if max(inlined_instruction_counts(result[0])) <= MAX_INLINED_INSTRUCTIONS:
            return result


# --- the six ----------------------------------------------------------------------------------------------------


def _delete(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Delete an instruction; its readers read its first operand instead.

    The output is the last instruction. If it is deleted, the instruction before it becomes the output.
    """
    index = _choose_multi_instruction_subprogram(dna, rng)
    if index is None:
        return None
    instructions = dna.subprograms[index].instructions
    position = draw_below(len(instructions), rng)
    child = delete_instruction(dna, index, position, instructions[position].in1)
    return child, f"Delete in {subprogram_label(dna, index)}: {format_instruction(dna, index, position)}"


def _insert(dna: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Insert an instruction at any place. References to later values shift, so no instruction reads the new one yet.

    At the end of a subprogram, it becomes the output. Its op and fields are drawn uniformly from all admissible values.
    """
    index = draw_below(len(dna.subprograms), rng)
    position = draw_below(len(dna.subprograms[index].instructions) + 1, rng)
    values = {name: choose(_admissible(dna, index, position, name, vocabulary), rng) for name in _FIELDS}
    child = insert_instruction(dna, index, position, Instruction(**values))
    return child, f"Insert in {subprogram_label(dna, index)}: {format_instruction(child, index, position)}"


def _delete_and_insert(dna: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str] | None:
    """Delete an instruction, then insert one."""
    deleted = _delete(dna, rng)
    if deleted is None:
        return None
    child, inserted = _insert(deleted[0], rng, vocabulary)
    return child, f"Delete and insert: {deleted[1].removeprefix('Delete ')}; then {inserted.removeprefix('Insert ')}"


def _mutate_field(dna: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str] | None:
    """Change one of the six fields of an instruction to another admissible value, even if its op ignores the field."""
    index = draw_below(len(dna.subprograms), rng)
    position = draw_below(len(dna.subprograms[index].instructions), rng)
    instruction = dna.subprograms[index].instructions[position]
    name = choose(_FIELDS, rng)
    old = getattr(instruction, name)
    others = [value for value in _admissible(dna, index, position, name, vocabulary) if value != old]
    if not others:
        return None
    child = replace_instruction(dna, index, position, replace(instruction, **{name: choose(others, rng)}))
    before, after = format_instruction(dna, index, position), format_instruction(child, index, position)
    change = f"{before} becomes {after}" if before != after else f"{before} ignores the change"
    return child, f"Mutate field {name} in {subprogram_label(dna, index)}: {change}"


def _swap(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Swap two instructions of a subprogram: each gets the position and the inputs of the other."""
    index = _choose_multi_instruction_subprogram(dna, rng)
    if index is None:
        return None
    instructions = list(dna.subprograms[index].instructions)
    first, second = (int(place) for place in rng.choice(len(instructions), size=2, replace=False))
    one, other = instructions[first], instructions[second]
    instructions[first] = replace(other, in1=one.in1, in2=one.in2)
    instructions[second] = replace(one, in1=other.in1, in2=other.in2)
    lines = " with ".join(format_instruction(dna, index, place) for place in sorted((first, second)))
    return dna.with_instructions(index, tuple(instructions)), f"Swap in {subprogram_label(dna, index)}: {lines}"


def _mutate_bank_value(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str]:
    """Change one entry of a bank, which changes every instruction that reads it."""
    if draw_below(2, rng):
        index = draw_below(len(dna.constants), rng)
        constant = _mutated_constant(dna.constants[index], rng)
        child = replace(dna, constants=replace_item(dna.constants, index, constant))
        return child, f"Mutate bank value: constant {index} from {dna.constants[index]:.6g} to {constant:.6g}"
    index = draw_below(len(dna.dimensions), rng)
    old = dna.dimensions[index]
    dimension = choose([other for other in RELATIVE_DIMENSIONS if other != old], rng)
    child = replace(dna, dimensions=replace_item(dna.dimensions, index, dimension))
    return child, f"Mutate bank value: dimension {index} from {old}u to {dimension}u"


MUTATIONS: dict[str, MutationType] = {
    "Delete": _delete,
    "Insert": _insert,
    "Delete and insert": _delete_and_insert,
    "Mutate field": _mutate_field,
    "Swap": _swap,
    "Mutate bank value": _mutate_bank_value,
}
"""The paper's six mutation types; the keys are the first words of their descriptions."""

_OP_DRAWING_MUTATIONS = {"Insert": _insert, "Delete and insert": _delete_and_insert, "Mutate field": _mutate_field}
"""Mutations that draw ops, and therefore take a vocabulary."""


# --- draws ------------------------------------------------------------------------------------------------------


def _choose_multi_instruction_subprogram(dna: DNA, rng: np.random.Generator) -> int | None:
    """Return the index of a random subprogram with at least two instructions; None if all have only one."""
    candidates = [index for index, subprogram in enumerate(dna.subprograms) if len(subprogram.instructions) > 1]
    return choose(candidates, rng) if candidates else None


def _mutated_constant(constant: float, rng: np.random.Generator) -> float:
    """Return c 10^X + Y, where X and Y are standard normal; drawn again if float32 cannot hold it (our choice)."""
    for _ in range(_REDRAWS):
        x, y = rng.standard_normal(2)
        result = constant * 10.0 ** float(x) + float(y)
        if math.isfinite(result) and abs(result) <= _LARGEST and result != constant:
            return result
    return float(rng.standard_normal())  # for a constant that is too large to scale


def _admissible(dna: DNA, index: int, position: int, field: str, vocabulary: Vocabulary) -> Sequence[Any]:
    """Return all values that a field of the instruction at this place can have."""
    if field == "op":
        return (*vocabulary.ops, *(f"call:{callee}" for callee in range(index + 1, len(dna.subprograms))))
    if field == "branches":
        return BRANCHES
    bounds = {
        "in1": position + 2,
        "in2": position + 2,
        "constant": len(dna.constants),
        "dimension": len(dna.dimensions),
    }
    return range(bounds[field])
