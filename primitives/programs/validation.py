"""Validation of a DNA: types, ranges and calls in every field, and the size of the program.

Fields that the op of an instruction ignores are checked as well, because a later mutation may use them. Whether a
well-formed DNA is *valid* (kinds, widths, causality) is checked by `canonical`, `causality_proof` and `causality_test`.
Each error names the place (subprogram, instruction, op), the fault and the remedy. `program_json` formats its errors
with the same functions.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

from ..errors import MalformedProgramError
from ..ops.op_table import OPS
from ..suggestions import did_you_mean
from .program import (
    BRANCHES,
    DNA,
    MAX_BANK_ENTRIES,
    MAX_INLINED_INSTRUCTIONS,
    MAX_SUBPROGRAMS,
    RELATIVE_DIMENSIONS,
    Subprogram,
)

__all__ = ["check_well_formed", "fail", "format_name", "format_value", "inlined_instruction_counts"]

_CALL = re.compile(r"call:(0|[1-9][0-9]{0,8})", re.ASCII)


def check_well_formed(dna: DNA) -> None:
    """Check types, ranges, calls and size of a DNA.

    Raises:
        MalformedProgramError: describes the first fault found.
    """
    _check_banks(dna)
    _check_subprograms(dna.subprograms)
    if type(dna.length_dependent) is not bool:
        fail(f"length_dependent is {format_value(dna.length_dependent)}, but must be true or false")
    constants, dimensions, subprograms = (len(dna.constants), len(dna.dimensions), len(dna.subprograms))
    for index, subprogram in enumerate(dna.subprograms):
        for bound, instruction in enumerate(subprogram.instructions, start=2):
            # One expression, because the search runs this for every child; `_explain` finds out which part failed.
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
    """Return the number of instructions of each subprogram with all calls inlined, dead instructions included."""
    sizes = [0] * len(dna.subprograms)
    for index in range(len(sizes) - 1, -1, -1):
        instructions = dna.subprograms[index].instructions
        callees = [instruction.callee for instruction in instructions if instruction.op not in OPS]
        sizes[index] = len(instructions) + sum([sizes[callee] - 1 for callee in callees if callee is not None])
    return sizes


# --- parts of the check ------------------------------------------------------------------------------------------


def _check_banks(dna: DNA) -> None:
    for name, bank in (("constants", dna.constants), ("dimensions", dna.dimensions)):
        if type(bank) is not tuple:
            fail(f"{name} is {format_value(bank)}, but must be a tuple")
        if not 1 <= len(bank) <= MAX_BANK_ENTRIES:
            fail(f"{name} holds {len(bank)} entries, but a bank holds 1 to {MAX_BANK_ENTRIES}")
    for index, constant in enumerate(dna.constants):
        if not isinstance(constant, float) or not math.isfinite(constant):
            fail(f"constants[{index}] is {format_value(constant)}; use a finite number")
    for index, dimension in enumerate(dna.dimensions):
        if type(dimension) is not int or dimension not in RELATIVE_DIMENSIONS:
            choices = ", ".join(map(str, RELATIVE_DIMENSIONS))
            fail(f"dimensions[{index}] is {format_value(dimension)}, but a relative dimension is one of {choices}")


def _check_subprograms(subprograms: tuple[Subprogram, ...]) -> None:
    if type(subprograms) is not tuple:
        fail(f"subprograms is {format_value(subprograms)}, but must be a tuple")
    if not 1 <= len(subprograms) <= MAX_SUBPROGRAMS:
        fail(f"the DNA holds {len(subprograms)} subprograms, but must hold 1 (MAIN) to {MAX_SUBPROGRAMS}")
    for index, subprogram in enumerate(subprograms):
        if type(subprogram.name) is not str or not _encodable(subprogram.name):
            fail(f"subprogram {index}: name is {format_value(subprogram.name)}, but must be text that UTF-8 can encode")
        if type(subprogram.instructions) is not tuple:
            fail(f"subprogram {index} ({format_name(subprogram.name)}): instructions must be a tuple")
        if not subprogram.instructions:
            fail(f"subprogram {index} ({format_name(subprogram.name)}) has no instructions, but needs at least 1")


def _check_sizes(dna: DNA) -> None:
    for index, size in enumerate(inlined_instruction_counts(dna)):
        if size > MAX_INLINED_INSTRUCTIONS:
            held = str(size) if size < 10**9 else f"about 10^{int(math.log10(size))}"
            name = format_name(dna.subprograms[index].name)
            fail(
                f"subprogram {index} ({name}) holds {held} instructions once its calls are inlined, but at most "
                f"{MAX_INLINED_INSTRUCTIONS} are allowed; call fewer or smaller subprograms"
            )


def _is_call(op: str, caller: int, subprograms: int) -> bool:
    match = _CALL.fullmatch(op)
    return match is not None and caller < int(match[1]) < subprograms


def _explain(dna: DNA, index: int, position: int) -> NoReturn:
    """Raise the error of an instruction that failed the check."""
    instruction = dna.subprograms[index].instructions[position]
    where = f"subprogram {index} ({format_name(dna.subprograms[index].name)}), instruction {position}"
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
            fail(f"{where} ({instruction.op}): {field} is {format_value(value)}, but must be {allowed} ({reason})")
    choices = ", ".join(map(str, BRANCHES))
    fail(f"{where} ({instruction.op}): branches is {format_value(instruction.branches)}, but must be one of {choices}")


def _explain_op(op: Any, where: str, index: int, subprograms: int) -> None:
    """Raise an error unless the op is a primitive or a valid call."""
    if type(op) is not str:
        fail(f"{where}: op is {format_value(op)}, but must be the name of a primitive or call:K, in quotes")
    if op in OPS or _is_call(op, index, subprograms):
        return
    if not op.startswith("call:"):
        remedy = did_you_mean(op, OPS, "`primer-search primitives` lists the known ops")
        fail(f"{where}: the op {format_value(op)} is unknown{remedy}")
    if index == subprograms - 1:
        fail(f"{where}: the op {format_value(op)} is invalid; the last subprogram cannot call any, so use a primitive")
    first, last = index + 1, subprograms - 1
    span = f"{first} to {last}" if first < last else str(last)
    fail(f"{where}: the op {format_value(op)} must call a higher subprogram (no cycles); use call:K with K = {span}")


# --- error messages ---------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    """Raise a MalformedProgramError."""
    raise MalformedProgramError(message)


def format_name(name: Any) -> str:
    """Return the name of a subprogram or op; a name that is long or not printable is shortened and quoted."""
    return name if type(name) is str and name.isprintable() and 0 < len(name) <= 40 else format_value(name)


def format_value(value: Any) -> str:
    """Return a value in JSON notation, shortened to one line."""
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
