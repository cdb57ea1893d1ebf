"""Look-up of programs that a user names: library programs, candidates of runs, and files of DNA."""

from __future__ import annotations

import json
import os.path
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...models.config import ModelConfig
from ...models.cost import program_lines
from ...primitives import DNA, MalformedProgramError, UsageError
from ...primitives.differences.diff_printer import format_difference
from ...primitives.graphs.query_scales import rescale_queries
from ...primitives.programs.library import HEADS, LIBRARY, get
from ...primitives.programs.pretty_printer import format_program
from ...primitives.programs.program_json import LARGEST_TEXT, dna_from_json, dna_to_json
from ...primitives.suggestions import did_you_mean
from ...system.user_folders import user_path
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..runs.run_directory import is_run
from .leaderboard import leaderboard, leading_candidate

if TYPE_CHECKING:  # loads SQLite
    from ..runs.store import Store

__all__ = [
    "NamedProgram",
    "find_candidate_id",
    "library_description",
    "library_dna",
    "named_program",
    "read_dna",
    "read_program",
]


@dataclass(frozen=True, slots=True)
class NamedProgram:
    """Program that a user named.

    Attributes:
        name: name to show in tables.
        dna: the program.
        unit: unit of width that the program's constants are for; None for a library program, because its query scale is
            adapted to the width.
        heads: number of attention heads of a library program.
    """

    name: str
    dna: DNA
    unit: int | None = None
    heads: int = HEADS

    def at(self, unit: int) -> DNA:
        """Return the program with query scales for a unit of width; other constants do not depend on the width."""
        if self.unit is None:
            return get(self.name, unit, self.heads) if self.name in LIBRARY else self.dna
        return self.dna if unit == self.unit else rescale_queries(self.dna, self.unit, unit)


def named_program(text: str, model: ModelConfig) -> NamedProgram:
    """Return the program that a user names.

    Args:
        text: name of a library program, `RUN:ID` (a number, `best` or `baseline`), or a file of DNA.
        model: configuration; library programs are made for its width and heads, and files are assumed to be for them.

    Raises:
        UsageError: the text is none of these.
    """
    run, colon, candidate = text.rpartition(":")
    exists = os.path.exists(user_path(text))
    if text in LIBRARY and not exists:
        return NamedProgram(text, model.library_program(text), heads=model.heads)
    if is_run(text):
        raise UsageError(f"{text} is a run: add a candidate, such as {text}:best")
    if not colon or exists:
        return NamedProgram(Path(text).stem, read_program(text, model), model.unit)
    from ..runs.store import Store

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, candidate)
        name = f"{store.run.path.name}:{candidate_name(number).removeprefix('#')}"
        return NamedProgram(name, store.candidate(number).dna, int(store.manifest["config"]["model"]["unit"]))


PAPER_MODEL = ModelConfig(layers=6, length=64, vocabulary=32768, length_dependent=True)
"""Model of the paper's search, for the costs of library programs."""


def read_program(named: str, model: ModelConfig) -> DNA:
    """Return the program in a file, on standard input (`-`), or in the library.

    Args:
        named: path of the file, `-`, or name of a library program.
        model: configuration, for the width and the heads of a library program.

    Raises:
        MalformedProgramError: the file is not DNA.
        UsageError: the file or name does not exist.
    """
    if named == "-":
        return read_dna("standard input", sys.stdin.buffer)
    if not named:
        raise UsageError("the name of the program is empty: give a file of DNA, - for standard input, or a name")
    path = user_path(named)
    if named in LIBRARY and not path.exists():
        return model.library_program(named)
    try:
        with path.open("rb") as file:
            return read_dna(named, file)
    except FileNotFoundError:
        remedy = did_you_mean(named, LIBRARY)
        raise UsageError(f"unknown file or library program {named}{remedy}") from None
    except MalformedProgramError:
        raise
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot read {named}: {reason}; give a file of DNA, - for standard input, or a name"
        ) from None


def read_dna(source: str, file: BinaryIO) -> DNA:
    """Return the program in an open file; messages call it `source`.

    Raises:
        MalformedProgramError: the file is not DNA.
    """
    content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise MalformedProgramError(f"{source} is not DNA: it is larger than {LARGEST_TEXT // 2**20} MiB")
    try:
        return dna_from_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedProgramError(f"{source} is not DNA: it is not UTF-8 text") from None
    except MalformedProgramError as error:
        raise MalformedProgramError(f"{source} is not DNA: {error}") from None


def find_candidate_id(store: Store, reference: str) -> int:
    """Return the id of the candidate that a user names by its number, `best` or `baseline`.

    `best` is the candidate of the run's headline: the best of those retrained by `confirm` or, without any, the best of
    the search.

    Raises:
        UsageError: the reference is none of these, or it is `best` and no candidate has finished a full trial.
    """
    word = reference.removeprefix("#").lower()
    if word == "baseline":
        return BASELINE_ID
    if word == "best":
        best = leading_candidate(leaderboard(store, top=2))
        if best is None:
            raise UsageError(
                f"run {store.run.path} has no best candidate: wait until one has finished a full trial, "
                "or give a number or `baseline`"
            )
        return best
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise UsageError(f"{reference[:40]!r} is not a candidate: give its number, `best` or `baseline`")
    return int(word)


def library_dna(name: str) -> DNA:
    """Return a library program by name, for commands that also take a run with a candidate.

    Raises:
        UsageError: the library does not have the program.
    """
    if name not in LIBRARY:
        if is_run(name):
            raise UsageError(f"{name} is a run: add a candidate (its number, `best` or `baseline`)")
        raise UsageError(f"unknown run or library program {name}{did_you_mean(name, LIBRARY)}")
    return get(name)


def library_description(name: str, against: str | None = None) -> dict[str, Any]:
    """Return a library program as plain JSON values, with its difference to another library program.

    Raises:
        UsageError: the library does not have one of the programs.
    """
    dna = library_dna(name)
    other = "TRANSFORMER" if against == "baseline" else against
    program = LIBRARY[name]
    model = replace(PAPER_MODEL, unit=program.native_unit)
    lines = program_lines(dna, model, program.native_unit)
    return {
        "name": name,
        "description": program.description,
        "reference": program.reference,
        "native_unit": program.native_unit,
        "dna": json.loads(dna_to_json(dna)),
        "listing": format_program(dna),
        "lines": [asdict(line) for line in lines],
        "model": {"width": model.width, **{name: getattr(model, name) for name in ("length", "layers", "vocabulary")}},
        "against": other,
        "difference": None if other is None else format_difference(get(other), dna),
    }
