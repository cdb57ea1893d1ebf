"""Initial programs: imported programs (`--init`). The population starts as copies of them.

The configured baseline remains candidate 0. All results are compared with it, the cap on parameters is relative to it,
reference seconds are measured with its steps, and the noise is estimated from its trials. Initial programs are
candidates 1 to n, and have no parent. The population starts as copies of the named programs in equal parts; the
baseline is among them only if it is also named. Every run trains its initial programs itself, so its leaderboard shows
imported programs with results of this run.

Library programs are adapted to the configured width. Programs from runs and files keep all their constants, because
constants are part of what a search found. Even their query scale is not adapted to the width: after mutations it cannot
be distinguished from other constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...primitives import DNA
from ...primitives.programs.program_json import dna_from_json, dna_to_json

__all__ = ["InitialProgram", "initial_program_origins", "read_initial_programs"]


@dataclass(frozen=True, slots=True)
class InitialProgram:
    """A program whose copies fill the population at the start.

    Attributes:
        candidate_id: candidate id; the baseline's if both compute the same function.
        origin: source of the program: a name of the library, `RUN:ID`, or a file.
        dna: program.
    """

    candidate_id: int
    origin: str
    dna: DNA

    @property
    def description(self) -> str:
        """The origin, shown where other candidates list their mutations."""
        return f"Imported from {self.origin}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values for the run's manifest; `read_initial_programs` reads them back."""
        return {"candidate": self.candidate_id, "origin": self.origin, "dna": dna_to_json(self.dna)}


def read_initial_programs(manifest: Mapping[str, Any]) -> tuple[InitialProgram, ...]:
    """Return the initial programs of a run; () if it started from its baseline."""
    return tuple(
        InitialProgram(each["candidate"], each["origin"], dna_from_json(each["dna"]))
        for each in manifest.get("initial_programs", ())
    )


def initial_program_origins(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Return the origins of the initial programs of a run by candidate id, with the baseline if it was named."""
    return {each["candidate"]: each["origin"] for each in manifest.get("initial_programs", ())}
