"""JSON format of a DNA: stable, versioned and strict; the store, the workers and users exchange it.

Ops are identified by name, never by position. Unknown or missing keys, wrong types, numbers that JSON does not have
(NaN, Infinity), and faults that `validation` finds raise a `MalformedProgramError`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import MalformedProgramError
from ..suggestions import did_you_mean
from .program import DNA, Instruction, Subprogram
from .validation import check_well_formed, fail, format_name, format_value

__all__ = ["FORMAT", "LARGEST_TEXT", "dna_from_json", "dna_to_json"]

FORMAT = 1
"""Version of the JSON format that this code reads and writes."""

LARGEST_TEXT = 2 * 2**20
"""Largest number of characters of a DNA. A program of 4,096 instructions, the largest allowed, needs a quarter of it.
Without a limit, memory could run out: Python's parser needs up to 30 times as many bytes as the text has."""

_DNA_KEYS = ("format", "constants", "dimensions", "subprograms")
_DNA_OPTIONAL_KEYS = ("length_dependent",)
_SUBPROGRAM_KEYS = ("name", "instructions")
_INSTRUCTION_KEYS = ("op", "in1", "in2", "constant", "dimension", "branches")


def dna_from_json(text: str) -> DNA:
    """Return the DNA that a JSON text describes.

    Raises:
        MalformedProgramError: the text is not the JSON of a well-formed DNA.
    """
    data = _parse(text)
    version = data.get("format", FORMAT) if isinstance(data, dict) else FORMAT
    if type(version) is not int or version != FORMAT:
        fail(f"format is {format_value(version)}, but this version reads only format {FORMAT}")
    _check_keys(data, "the DNA", _DNA_KEYS, _DNA_OPTIONAL_KEYS)
    constants = tuple(_constant(index, value) for index, value in enumerate(_list(data, "constants", "")))
    subprograms = tuple(_subprogram(index, item) for index, item in enumerate(_list(data, "subprograms", "")))
    dna = DNA(constants, tuple(_list(data, "dimensions", "")), subprograms, data.get("length_dependent", False))
    check_well_formed(dna)
    return dna


def dna_to_json(dna: DNA) -> str:
    """Return a DNA as canonical JSON text, one instruction per line; `dna_from_json` reads it back exactly.

    Raises:
        MalformedProgramError: the DNA is not well-formed. Text that cannot be read back is never written.
    """
    check_well_formed(dna)
    text = _text(dna)
    if len(text) > LARGEST_TEXT:
        fail(
            f"the program needs a text of more than {LARGEST_TEXT // 2**20} MiB: remove subprograms that are not called"
        )
    return text


def _text(dna: DNA) -> str:
    constants = ", ".join(repr(float(constant)) for constant in dna.constants)
    dimensions = ", ".join(map(str, dna.dimensions))
    flag = ' "length_dependent": true,\n' if dna.length_dependent else ""
    return (
        f'{{"format": {FORMAT}, "constants": [{constants}], "dimensions": [{dimensions}],\n{flag} "subprograms": [\n'
        + ",\n".join(_subprogram_text(subprogram) for subprogram in dna.subprograms)
        + "]}"
    )


# --- reading ----------------------------------------------------------------------------------------------------


def _parse(text: str) -> Any:
    if len(text) > LARGEST_TEXT:
        fail(f"the text has more than {LARGEST_TEXT // 2**20} MiB, which no program needs")
    if not text.strip():
        fail("the text is not JSON: it is empty")
    if text.startswith("\ufeff"):
        fail("the text begins with a byte-order mark, which JSON does not have; save it as UTF-8 without one")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except MalformedProgramError:
        raise
    except RecursionError:
        message = "the text nests too deeply; a DNA has five levels of brackets"
    except json.JSONDecodeError as error:
        message = f"the text is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError:  # Python refuses to convert integers of thousands of digits
        message = (
            "the text holds an integer of thousands of digits, which no field of a DNA needs; use a shorter number"
        )
    raise MalformedProgramError(message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        fail(f"the key {format_value(repeated)} appears twice in one object; keep one")
    return data


def _refuse_constant(word: str) -> NoReturn:
    fail(f"the text holds {word}, which is not a JSON number; use a finite number")


def _check_keys(data: Any, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not isinstance(data, dict):
        fail(f"{where} is {format_value(data)}, but must be an object with the keys {', '.join(required)}")
    for key in required:
        if key not in data:
            fail(f"{where} lacks the key '{key}'; it needs {', '.join(required)}")
    known = (*required, *optional)
    for key in data:
        if key not in known:
            fail(f"{where} has the unknown key {format_value(key)}{did_you_mean(key, known)}")


def _list(data: dict[str, Any], key: str, where: str) -> list[Any]:
    value = data[key]
    if type(value) is not list:
        fail(f"{where}{key} is {format_value(value)}, but must be a list")
    return value


def _constant(index: int, value: Any) -> Any:
    """Return an integer as a float; other values pass unchanged, for `check_well_formed` to refuse."""
    try:
        return float(value) if type(value) is int else value
    except OverflowError:
        fail(f"constants[{index}] is {format_value(value)}, beyond the range of a float; use a finite number")


def _subprogram(index: int, data: Any) -> Subprogram:
    where = f"subprogram {index}"
    _check_keys(data, where, _SUBPROGRAM_KEYS)
    instructions = _list(data, "instructions", f"{where} ({format_name(data['name'])}): ")
    return Subprogram(data["name"], tuple(_instruction(data, index, item) for item in enumerate(instructions)))


def _instruction(owner: dict[str, Any], subprogram: int, item: tuple[int, Any]) -> Instruction:
    index, data = item
    if not isinstance(data, dict) or len(data) != 6 or not all(key in data for key in _INSTRUCTION_KEYS):
        op = f" ({format_name(data['op'])})" if isinstance(data, dict) and "op" in data else ""
        where = f"subprogram {subprogram} ({format_name(owner['name'])}), instruction {index}{op}"
        _check_keys(data, where, _INSTRUCTION_KEYS)
    return Instruction(data["op"], data["in1"], data["in2"], data["constant"], data["dimension"], data["branches"])


# --- writing ----------------------------------------------------------------------------------------------------


def _subprogram_text(subprogram: Subprogram) -> str:
    lines = ",\n".join(
        f'    {{"op": "{i.op}", "in1": {i.in1}, "in2": {i.in2}, "constant": {i.constant}, '
        f'"dimension": {i.dimension}, "branches": {i.branches}}}'
        for i in subprogram.instructions
    )
    return f'  {{"name": {json.dumps(subprogram.name)}, "instructions": [\n{lines}]}}'
