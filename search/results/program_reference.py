"""A program as the user names it: from the library, a candidate of a run, or a file of DNA."""

from __future__ import annotations

import os.path
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...primitives import DNA, MalformedProgramError, UsageError
from ...primitives.diff_printer import format_difference
from ...primitives.library import LIBRARY, get
from ...primitives.pretty_printer import format_program
from ...primitives.program_json import dna_from_json, dna_to_json
from ...primitives.suggestions import did_you_mean
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..runs.run_directory import RUNS

if TYPE_CHECKING:  # loads SQLite
    from ..runs.store import Store

__all__ = ["NamedProgram", "find_candidate_id", "library_description", "named_program", "read_program"]


@dataclass(frozen=True, slots=True)
class NamedProgram:
    """A program that was named.

    Attributes:
        name: what tables call it.
        dna: the program.
        unit: the width it was evolved or written at, for one whose constants are fixed; None for a library program,
            whose query scale follows the width it is trained at.
    """

    name: str
    dna: DNA
    unit: int | None = None

    def at(self, unit: int) -> DNA:
        """The program for a unit of width."""
        return get(self.name, unit) if self.unit is None and self.name in LIBRARY else self.dna


def named_program(text: str, unit: int) -> NamedProgram:
    """The program a user names.

    Args:
        text: a name of the library, `RUN:ID` (a number, `best` or `baseline`), or a file of DNA.
        unit: of the configuration, which library programs are fitted to; files do not say what they were made for.

    Raises:
        UsageError: it is none of these.
    """
    run, colon, candidate = text.rpartition(":")
    exists = os.path.exists(text)
    if text in LIBRARY and not exists:
        return NamedProgram(text, get(text, unit))
    if text and any(os.path.isfile(os.path.join(place, "run.sqlite")) for place in (text, RUNS / text)):
        raise UsageError(f"{text} is a run: name a candidate of it, such as {text}:best.")
    if not colon or exists:
        return NamedProgram(Path(text).stem, read_program(text, unit), unit)
    from ..runs.store import Store

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, candidate)
        name = f"{store.run.path.name}:{candidate_name(number).removeprefix('#')}"
        return NamedProgram(name, store.candidate(number).dna, int(store.manifest["config"]["model"]["unit"]))


LARGEST_FILE = 64 * 2**20
"""Bytes of DNA that are read; the largest program the language allows is far smaller."""


def read_program(named: str, unit: int | None = None) -> DNA:
    """The program a user names: a file of DNA, `-` for stdin, or a name from the library.

    Args:
        named: what the user typed.
        unit: the unit width a library program's query scale is for.

    Raises:
        MalformedProgramError: the file holds no DNA.
        UsageError: the file or name does not exist.
    """
    if named == "-":
        return _parsed("standard input", _limited("standard input", sys.stdin.buffer))
    if not named:
        raise UsageError("the name of the program is empty: give a file of DNA, - for standard input, or a name")
    path = Path(named)
    if named in LIBRARY and not path.exists():
        return get(named, unit)
    try:
        with path.open("rb") as file:
            return _parsed(named, _limited(named, file))
    except FileNotFoundError:
        remedy = did_you_mean(named, LIBRARY)
        raise UsageError(f"there is no file {named} and no library program of that name{remedy}") from None
    except MalformedProgramError:
        raise
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot read {named}: {reason}; give a file of DNA, - for standard input, or a name"
        ) from None


def _limited(source: str, file: BinaryIO) -> bytes:
    """All of a file, which may have no end."""
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise MalformedProgramError(f"{source} holds no DNA: it is larger than {LARGEST_FILE // 2**20} MiB")
    return content


def _parsed(source: str, content: bytes) -> DNA:
    try:
        return dna_from_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedProgramError(f"{source} holds no DNA: it is not UTF-8 text") from None
    except MalformedProgramError as error:
        raise MalformedProgramError(f"{source} holds no DNA: {error}") from None


def find_candidate_id(store: Store, reference: str) -> int:
    """Return the id of the candidate that a user names by its number, `best` or `baseline`.

    Raises:
        UsageError: the reference is none of these, or is `best` before a candidate has finished a full trial.
    """
    word = reference.removeprefix("#").lower()
    if word == "baseline":
        return BASELINE_ID
    if word == "best":
        best = store.best_candidate_id()
        if best is None:
            raise UsageError(
                f"run {store.run.path} has no best candidate: wait until one has finished a full trial, "
                "or give a number or `baseline`"
            )
        return best
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise UsageError(f"{reference[:40]!r} is not a candidate: give its number, `best` or `baseline`")
    return int(word)


def library_description(name: str, against: str | None = None) -> dict[str, Any]:
    """A library program as plain JSON values, with its difference to another one.

    Raises:
        UsageError: the program does not exist.
    """
    import json

    if name not in LIBRARY:
        if Path(name, "run.sqlite").is_file() or (RUNS / name / "run.sqlite").is_file():
            raise UsageError(f"{name} is a run: name a candidate of it too, its number, `best` or `baseline`.")
        remedy = did_you_mean(name, LIBRARY)
        raise UsageError(f"there is no run and no library program named {name}{remedy}")
    other = "TRANSFORMER" if against == "baseline" else against
    program = LIBRARY[name]
    return {
        "name": name,
        "description": program.description,
        "reference": program.reference,
        "native_unit": program.native_unit,
        "dna": json.loads(dna_to_json(program.dna)),
        "listing": format_program(program.dna),
        "against": other,
        "difference": None if other is None else format_difference(get(other), program.dna),
    }
