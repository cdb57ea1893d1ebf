"""Initial programs: imported programs that the population starts as copies of (`--init`).

The baseline remains the configured one, candidate 0. All results are compared with it, the cap on parameters is
relative to it, reference seconds are timed by its steps, and the spread of its trials is the noise. Initial programs
are candidates 1 to n, and have no parent. The population starts as copies of the named programs in equal parts; the
baseline is among them only if it is also named. Every run trains its initial programs itself, so imported programs
appear on its leaderboard with its own results.

Programs of the library are fitted to the width of the configuration. Programs from runs and files are not, not even the
scale of their queries: constants are part of what a search found, and a query scale that has mutated cannot be told
from another constant.
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
    """Return the initial programs of a run; none if it started from its baseline."""
    return tuple(
        InitialProgram(each["candidate"], each["origin"], dna_from_json(each["dna"]))
        for each in manifest.get("initial_programs", ())
    )


def initial_program_origins(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Return the origin of each initial program of a run by candidate id, also the baseline's if it was named."""
    return {each["candidate"]: each["origin"] for each in manifest.get("initial_programs", ())}
