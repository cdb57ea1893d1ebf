"""A program as the user names it: from the library, a candidate of a run, or a file of DNA."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path

from ..primitives import DNA, UsageError
from ..primitives.library import LIBRARY, get
from .check_program import read_program
from .run_directory import RUNS

__all__ = ["Subject", "subject_of"]


@dataclass(frozen=True, slots=True)
class Subject:
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


def subject_of(text: str, unit: int) -> Subject:
    """The program a user names.

    Args:
        text: a name of the library, `RUN:ID` (a number, `best` or `seed`), or a file of DNA.
        unit: of the configuration, which library programs are fitted to; files do not say what they were made for.

    Raises:
        UsageError: it is none of these.
    """
    run, colon, candidate = text.rpartition(":")
    exists = os.path.exists(text)
    if text in LIBRARY and not exists:
        return Subject(text, get(text, unit))
    if text and any(os.path.isfile(os.path.join(place, "run.sqlite")) for place in (text, RUNS / text)):
        raise UsageError(f"{text} is a run: name a candidate of it, such as {text}:best.")
    if not colon or exists:
        return Subject(Path(text).stem, read_program(text, unit), unit)
    from .description import candidate_id_of
    from .leaderboard import leaderboard
    from .reports.phrases import candidate_name
    from .store import Store

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = candidate_id_of(candidate, leaderboard(store))
        name = f"{store.run.path.name}:{candidate_name(number).removeprefix('#')}"
        return Subject(name, store.candidate(number).dna, int(store.manifest["config"]["model"]["unit"]))
