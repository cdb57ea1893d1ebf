"""What makes a DNA well-formed: types, ranges, calls and size, of every field, even one that its op ignores.

Indices are checked where nothing reads them because a later mutation may start to. Whether a well-formed DNA is
*valid* (kinds, widths, causality) is for `canonical` and `causality` to say. Every refusal is a
`MalformedProgramError` of one sentence: where (subprogram, instruction, op), what, the remedy; the helpers that word
it are shared with `program_json`.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

from .errors import MalformedProgramError
from .ops import OPS
from .program import (
    BRANCHES,
    DNA,
    MAX_BANK_ENTRIES,
    MAX_INLINED_INSTRUCTIONS,
    MAX_SUBPROGRAMS,
    RELATIVE_DIMENSIONS,
    Subprogram,
)
from .suggestions import did_you_mean

__all__ = ["check_well_formed", "fail", "inlined_instruction_counts", "label", "show"]

_CALL = re.compile(r"call:(0|[1-9][0-9]{0,8})", re.ASCII)


def check_well_formed(dna: DNA) -> None:
    """Check types, ranges, calls and size of a DNA, every field, even those that its ops do not use.

    Raises:
        MalformedProgramError: the first fault found, in one sentence.
    """
    _check_banks(dna)
    _check_subprograms(dna.subprograms)
    if type(dna.length_dependent) is not bool:
        fail(f"length_dependent is {show(dna.length_dependent)}, but must be true or false")
    constants, dimensions, subprograms = (len(dna.constants), len(dna.dimensions), len(dna.subprograms))
    for index, subprogram in enumerate(dna.subprograms):
        for bound, instruction in enumerate(subprogram.instructions, start=2):
            # One expression for the common case: the search runs this for every child.
            if not (
                type(instruction.in1) is int
                and type(instruction.in2) is int
                and type(instruction.constant) is int
                and type(instruction.dimension) is int
                and type(instruction.branches) is int
                and 0 <= instruction.in1 < bound
                and 0 <= instruction.in2 < bound
                and 0 <= instruction.constant < constants
                and 0 <= instruction.dimension < dimensions
                and instruction.branches in BRANCHES
                and type(instruction.op) is str
                and (instruction.op in OPS or _is_call(instruction.op, index, subprograms))
            ):
                _explain(dna, index, bound - 2)
    _check_sizes(dna)


def inlined_instruction_counts(dna: DNA) -> list[int]:
    """Instructions of each subprogram once every call in it is inlined, dead ones too; nothing is expanded."""
    sizes = [0] * len(dna.subprograms)
    for index in range(len(sizes) - 1, -1, -1):
        sizes[index] = sum(
            sizes[int(instruction.op[5:])] if instruction.op.startswith("call:") else 1
            for instruction in dna.subprograms[index].instructions
        )
    return sizes


# --- parts of the check ------------------------------------------------------------------------------------------


def _check_banks(dna: DNA) -> None:
    for name, bank in (("constants", dna.constants), ("dimensions", dna.dimensions)):
        if type(bank) is not tuple:
            fail(f"{name} is {show(bank)}, but must be a tuple")
        if not 1 <= len(bank) <= MAX_BANK_ENTRIES:
            fail(f"{name} holds {len(bank)} entries, but a bank holds 1 to {MAX_BANK_ENTRIES}")
    for index, constant in enumerate(dna.constants):
        if not isinstance(constant, float) or not math.isfinite(constant):
            fail(f"constants[{index}] is {show(constant)}; use a finite number")
    for index, dimension in enumerate(dna.dimensions):
        if type(dimension) is not int or dimension not in RELATIVE_DIMENSIONS:
            choices = ", ".join(map(str, RELATIVE_DIMENSIONS))
            fail(f"dimensions[{index}] is {show(dimension)}, but a relative dimension is one of {choices}")


def _check_subprograms(subprograms: tuple[Subprogram, ...]) -> None:
    if type(subprograms) is not tuple:
        fail(f"subprograms is {show(subprograms)}, but must be a tuple")
    if not 1 <= len(subprograms) <= MAX_SUBPROGRAMS:
        fail(f"the DNA holds {len(subprograms)} subprograms, but must hold 1 (MAIN) to {MAX_SUBPROGRAMS}")
    for index, subprogram in enumerate(subprograms):
        if type(subprogram.name) is not str or not _encodable(subprogram.name):
            fail(f"subprogram {index}: name is {show(subprogram.name)}, but must be text that UTF-8 can hold")
        if type(subprogram.instructions) is not tuple:
            fail(f"subprogram {index} ({label(subprogram.name)}): instructions must be a tuple")
        if not subprogram.instructions:
            fail(f"subprogram {index} ({label(subprogram.name)}) is empty; its output needs at least one instruction")


def _check_sizes(dna: DNA) -> None:
    for index, size in enumerate(inlined_instruction_counts(dna)):
        if size > MAX_INLINED_INSTRUCTIONS:
            held = str(size) if size < 10**9 else f"about 10^{int(math.log10(size))}"
            fail(
                f"subprogram {index} ({label(dna.subprograms[index].name)}) holds {held} instructions once its calls "
                f"are inlined, but at most {MAX_INLINED_INSTRUCTIONS} are allowed; call fewer or smaller subprograms"
            )


def _is_call(op: str, caller: int, subprograms: int) -> bool:
    match = _CALL.fullmatch(op)
    return match is not None and caller < int(match[1]) < subprograms


def _explain(dna: DNA, index: int, position: int) -> NoReturn:
    """Say what is wrong with an instruction that is known to be wrong."""
    instruction = dna.subprograms[index].instructions[position]
    where = f"subprogram {index} ({label(dna.subprograms[index].name)}), instruction {position}"
    _explain_op(instruction.op, where, index, len(dna.subprograms))
    operand = (position + 2, "h0 is 0, h1 is 1, and the output of earlier instruction k is k + 2")
    bounds = {
        "in1": operand,
        "in2": operand,
        "constant": (len(dna.constants), f"the bank of constants holds {len(dna.constants)}"),
        "dimension": (len(dna.dimensions), f"the bank of dimensions holds {len(dna.dimensions)}"),
    }
    for field, (bound, reason) in bounds.items():
        value = getattr(instruction, field)
        if type(value) is not int or not 0 <= value < bound:
            allowed = f"an integer from 0 to {bound - 1}" if bound > 1 else "0"
            fail(f"{where} ({instruction.op}): {field} is {show(value)}, but must be {allowed} ({reason})")
    choices = ", ".join(map(str, BRANCHES))
    fail(f"{where} ({instruction.op}): branches is {show(instruction.branches)}, but must be one of {choices}")


def _explain_op(op: Any, where: str, index: int, subprograms: int) -> None:
    """Fail unless the op is a primitive or an admissible call."""
    if type(op) is not str:
        fail(f"{where}: op is {show(op)}, but must be the name of a primitive or call:K, in quotes")
    if op in OPS or _is_call(op, index, subprograms):
        return
    if not op.startswith("call:"):
        fail(
            f"{where}: the op {show(op)} is unknown{did_you_mean(op, OPS, '`primer-search primitives` lists the ops')}"
        )
    if index == subprograms - 1:
        fail(f"{where}: the op {show(op)} calls no higher subprogram, and {index} is the last, which can call none")
    first, last = index + 1, subprograms - 1
    span = f"{first} to {last}" if first < last else str(last)
    fail(f"{where}: the op {show(op)} calls no higher subprogram, as it must (no cycles); use call:K with K = {span}")


# --- sentences --------------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    """Refuse the DNA with one sentence."""
    raise MalformedProgramError(message)


def label(name: Any) -> str:
    """A subprogram's or op's name, on one line and short, whatever the text holds."""
    return name if type(name) is str and name.isprintable() and 0 < len(name) <= 40 else show(name)


def show(value: Any) -> str:
    """A value as the JSON has it, on one line and short."""
    if isinstance(value, dict | list | tuple):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and value.bit_length() > 80:
        return f"an integer of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = ascii(value)
    return text if len(text) <= 48 else f"{text[:44]}...{text[-1]}"


def _encodable(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
