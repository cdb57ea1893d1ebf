"""DNA as JSON text, and what makes a DNA well-formed.

The text is stable, versioned and strict: it is what the store, the workers and users exchange. Ops go by name,
never by position; unknown or missing keys, wrong types and indices out of range are refused, in every field, even
one its op ignores, because a later mutation may start to read it. `check_well_formed` states the same rules for a
DNA built in Python; whether a well-formed DNA is *valid* (kinds, widths, causality) is for `graph` to say.

Every refusal is a `MalformedProgramError` of one sentence: where (subprogram, instruction, op), what, the remedy.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
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
    Instruction,
    Subprogram,
)

__all__ = ["FORMAT", "check_well_formed", "dumps", "inlined_sizes", "loads"]

FORMAT = 1
"""The version of the JSON that this code reads and writes."""

_DNA_KEYS = ("format", "constants", "dimensions", "subprograms")
_DNA_OPTIONAL_KEYS = ("length_dependent",)
_SUBPROGRAM_KEYS = ("name", "instructions")
_INSTRUCTION_KEYS = ("op", "in1", "in2", "constant", "dimension", "branches")
_CALL = re.compile(r"call:(0|[1-9][0-9]{0,8})", re.ASCII)
_NUMBERS_HINT = "use a finite number"


def loads(text: str) -> DNA:
    """Read a DNA from JSON text.

    Raises:
        MalformedProgramError: the text is not the JSON of a well-formed DNA.
    """
    data = _parse(text)
    _check_keys(data, "the DNA", _DNA_KEYS, _DNA_OPTIONAL_KEYS)
    if type(data["format"]) is not int or data["format"] != FORMAT:
        _fail(
            f"format is {_show(data['format'])}, but this version reads only format {FORMAT}"
        )
    constants = tuple(
        _constant(index, value)
        for index, value in enumerate(_list(data, "constants", ""))
    )
    subprograms = tuple(
        _subprogram(index, item)
        for index, item in enumerate(_list(data, "subprograms", ""))
    )
    dna = DNA(
        constants,
        tuple(_list(data, "dimensions", "")),
        subprograms,
        data.get("length_dependent", False),
    )
    check_well_formed(dna)
    return dna


def dumps(dna: DNA) -> str:
    """Write a DNA as canonical JSON text, one instruction a line; `loads` reads it back exactly.

    Raises:
        MalformedProgramError: the DNA is not well-formed, so that nothing unreadable is ever written.
    """
    check_well_formed(dna)
    constants = ", ".join(repr(float(constant)) for constant in dna.constants)
    dimensions = ", ".join(map(str, dna.dimensions))
    flag = ' "length_dependent": true,\n' if dna.length_dependent else ""
    return (
        f'{{"format": {FORMAT}, "constants": [{constants}], "dimensions": [{dimensions}],\n{flag} "subprograms": [\n'
        + ",\n".join(_subprogram_text(subprogram) for subprogram in dna.subprograms)
        + "]}"
    )


def inlined_sizes(dna: DNA) -> list[int]:
    """Instructions of each subprogram once every call in it is inlined, dead ones too; nothing is expanded."""
    sizes = [0] * len(dna.subprograms)
    for index in range(len(sizes) - 1, -1, -1):
        sizes[index] = sum(
            sizes[int(instruction.op[5:])] if instruction.op.startswith("call:") else 1
            for instruction in dna.subprograms[index].instructions
        )
    return sizes


def check_well_formed(dna: DNA) -> None:
    """Check types, ranges, calls and size of a DNA, every field, even those that its ops do not use.

    Raises:
        MalformedProgramError: the first fault found, in one sentence.
    """
    _check_banks(dna)
    _check_subprograms(dna.subprograms)
    if type(dna.length_dependent) is not bool:
        _fail(
            f"length_dependent is {_show(dna.length_dependent)}, but must be true or false"
        )
    constants, dimensions, subprograms = (
        len(dna.constants),
        len(dna.dimensions),
        len(dna.subprograms),
    )
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
                and (
                    instruction.op in OPS
                    or _is_call(instruction.op, index, subprograms)
                )
            ):
                _explain(dna, index, bound - 2)
    _check_sizes(dna)


# --- reading ----------------------------------------------------------------------------------------------------


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except MalformedProgramError:
        raise
    except RecursionError:
        message = (
            "the text nests too deeply to be a DNA; a DNA has five levels of brackets"
        )
    except json.JSONDecodeError as error:
        message = f"the text is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError:  # Python refuses to convert integers of thousands of digits
        message = "the text holds an integer of thousands of digits; every number of a DNA is short"
    _fail(message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        _fail(f"the key {_show(repeated)} appears twice in one object; keep one")
    return data


def _refuse_constant(word: str) -> NoReturn:
    _fail(f"the text holds {word}, which is no number of JSON; {_NUMBERS_HINT}")


def _check_keys(
    data: Any, where: str, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    if not isinstance(data, dict):
        _fail(
            f"{where} is {_show(data)}, but must be an object with the keys {', '.join(required)}"
        )
    for key in required:
        if key not in data:
            _fail(f"{where} lacks the key '{key}'; it needs {', '.join(required)}")
    for key in data:
        if key not in required and key not in optional:
            _fail(
                f"{where} has the unknown key {_show(key)}{_nearest(key, (*required, *optional))}"
            )


def _list(data: dict[str, Any], key: str, where: str) -> list[Any]:
    value = data[key]
    if type(value) is not list:
        _fail(f"{where}{key} is {_show(value)}, but must be a list")
    return value


def _constant(index: int, value: Any) -> Any:
    """The number as a float; what is no number passes unchanged, for `check_well_formed` to refuse."""
    try:
        return float(value) if type(value) is int else value
    except OverflowError:
        _fail(
            f"constants[{index}] is {_show(value)}, beyond the range of a float; {_NUMBERS_HINT}"
        )


def _subprogram(index: int, data: Any) -> Subprogram:
    where = f"subprogram {index}"
    _check_keys(data, where, _SUBPROGRAM_KEYS)
    instructions = _list(data, "instructions", f"{where} ({_label(data['name'])}): ")
    return Subprogram(
        data["name"],
        tuple(_instruction(data, index, item) for item in enumerate(instructions)),
    )


def _instruction(
    owner: dict[str, Any], subprogram: int, item: tuple[int, Any]
) -> Instruction:
    index, data = item
    if (
        not isinstance(data, dict)
        or len(data) != 6
        or not all(key in data for key in _INSTRUCTION_KEYS)
    ):
        op = (
            f" ({_label(data['op'])})"
            if isinstance(data, dict) and "op" in data
            else ""
        )
        where = f"subprogram {subprogram} ({_label(owner['name'])}), instruction {index}{op}"
        _check_keys(data, where, _INSTRUCTION_KEYS)
    return Instruction(
        data["op"],
        data["in1"],
        data["in2"],
        data["constant"],
        data["dimension"],
        data["branches"],
    )


# --- writing ----------------------------------------------------------------------------------------------------


def _subprogram_text(subprogram: Subprogram) -> str:
    lines = ",\n".join(
        f'    {{"op": "{i.op}", "in1": {i.in1}, "in2": {i.in2}, "constant": {i.constant}, '
        f'"dimension": {i.dimension}, "branches": {i.branches}}}'
        for i in subprogram.instructions
    )
    return f'  {{"name": {json.dumps(subprogram.name)}, "instructions": [\n{lines}]}}'


# --- checking ---------------------------------------------------------------------------------------------------


def _check_banks(dna: DNA) -> None:
    for name, bank in (("constants", dna.constants), ("dimensions", dna.dimensions)):
        if type(bank) is not tuple:
            _fail(f"{name} is {_show(bank)}, but must be a tuple")
        if not 1 <= len(bank) <= MAX_BANK_ENTRIES:
            _fail(
                f"{name} holds {len(bank)} entries, but a bank holds 1 to {MAX_BANK_ENTRIES}"
            )
    for index, constant in enumerate(dna.constants):
        if not isinstance(constant, float) or not math.isfinite(constant):
            _fail(f"constants[{index}] is {_show(constant)}; {_NUMBERS_HINT}")
    for index, dimension in enumerate(dna.dimensions):
        if type(dimension) is not int or dimension not in RELATIVE_DIMENSIONS:
            choices = ", ".join(map(str, RELATIVE_DIMENSIONS))
            _fail(
                f"dimensions[{index}] is {_show(dimension)}, but a relative dimension is one of {choices}"
            )


def _check_subprograms(subprograms: tuple[Subprogram, ...]) -> None:
    if type(subprograms) is not tuple:
        _fail(f"subprograms is {_show(subprograms)}, but must be a tuple")
    if not 1 <= len(subprograms) <= MAX_SUBPROGRAMS:
        _fail(
            f"the DNA holds {len(subprograms)} subprograms, but must hold 1 (MAIN) to {MAX_SUBPROGRAMS}"
        )
    for index, subprogram in enumerate(subprograms):
        if type(subprogram.name) is not str or not _encodable(subprogram.name):
            _fail(
                f"subprogram {index}: name is {_show(subprogram.name)}, but must be text that UTF-8 can hold"
            )
        if type(subprogram.instructions) is not tuple:
            _fail(
                f"subprogram {index} ({_label(subprogram.name)}): instructions must be a tuple"
            )
        if not subprogram.instructions:
            _fail(
                f"subprogram {index} ({_label(subprogram.name)}) is empty; its output needs at least one instruction"
            )


def _check_sizes(dna: DNA) -> None:
    for index, size in enumerate(inlined_sizes(dna)):
        if size > MAX_INLINED_INSTRUCTIONS:
            held = str(size) if size < 10**9 else f"about 10^{int(math.log10(size))}"
            _fail(
                f"subprogram {index} ({_label(dna.subprograms[index].name)}) holds {held} instructions once its calls "
                f"are inlined, but at most {MAX_INLINED_INSTRUCTIONS} are allowed; call less, or call smaller subprograms"
            )


def _is_call(op: str, caller: int, subprograms: int) -> bool:
    match = _CALL.fullmatch(op)
    return match is not None and caller < int(match[1]) < subprograms


def _explain(dna: DNA, index: int, position: int) -> NoReturn:
    """Say what is wrong with an instruction that is known to be wrong."""
    instruction = dna.subprograms[index].instructions[position]
    where = f"subprogram {index} ({_label(dna.subprograms[index].name)}), instruction {position}"
    _explain_op(instruction.op, where, index, len(dna.subprograms))
    bounds = {
        "in1": (
            position + 2,
            "h0 is 0, h1 is 1, and the output of earlier instruction k is k + 2",
        ),
        "in2": (
            position + 2,
            "h0 is 0, h1 is 1, and the output of earlier instruction k is k + 2",
        ),
        "constant": (
            len(dna.constants),
            f"the bank of constants holds {len(dna.constants)}",
        ),
        "dimension": (
            len(dna.dimensions),
            f"the bank of dimensions holds {len(dna.dimensions)}",
        ),
    }
    for field, (bound, reason) in bounds.items():
        value = getattr(instruction, field)
        if type(value) is not int or not 0 <= value < bound:
            allowed = f"an integer from 0 to {bound - 1}" if bound > 1 else "0"
            _fail(
                f"{where} ({instruction.op}): {field} is {_show(value)}, but must be {allowed} ({reason})"
            )
    choices = ", ".join(map(str, BRANCHES))
    _fail(
        f"{where} ({instruction.op}): branches is {_show(instruction.branches)}, but must be one of {choices}"
    )


def _explain_op(op: Any, where: str, index: int, subprograms: int) -> None:
    """Fail unless the op is a primitive or an admissible call."""
    if type(op) is not str:
        _fail(
            f"{where}: op is {_show(op)}, but must be the name of a primitive or call:K, in quotes"
        )
    if op in OPS or _is_call(op, index, subprograms):
        return
    if not op.startswith("call:"):
        _fail(f"{where}: the op {_show(op)} is unknown{_nearest(op, tuple(OPS))}")
    highest = subprograms - 1
    if index == highest:
        _fail(
            f"{where}: the op {_show(op)} calls no higher subprogram, and {index} is the last: it can call none"
        )
    span = f"{index + 1} to {highest}" if index + 1 < highest else str(highest)
    _fail(
        f"{where}: the op {_show(op)} does not call a higher subprogram, as call:K with K = {span} would"
    )


# --- sentences --------------------------------------------------------------------------------------------------


def _fail(message: str) -> NoReturn:
    raise MalformedProgramError(message)


def _nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name[:64], names, n=1) or get_close_matches(
        name[:64].upper(), names, n=1
    )
    if near:
        return f"; did you mean {near[0]}?"
    return (
        f"; known are {', '.join(names)}"
        if len(names) < 10
        else "; `primer-search primitives` lists the known ones"
    )


def _label(name: Any) -> str:
    """A subprogram's or op's name, on one line and short, whatever the text holds."""
    return (
        name
        if type(name) is str and name.isprintable() and 0 < len(name) <= 40
        else _show(name)
    )


def _show(value: Any) -> str:
    """A value as the JSON has it, on one line and short."""
    if isinstance(value, dict | list | tuple):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and value.bit_length() > 80:
        return (
            f"an integer of about {int(value.bit_length() * math.log10(2)) + 1} digits"
        )
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = ascii(value)
    return text if len(text) <= 48 else f"{text[:44]}...{text[-1]}"


def _encodable(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
