"""Initial programs: programs from elsewhere that a search's population starts as copies of (`--init`).

The *baseline* stays the configured baseline, candidate 0: what every result is compared with, whose parameters the
cap counts in, whose steps reference seconds are timed by, and whose trials are the noise. Initial programs are
candidates 1 to n, without a parent; descendants' ancestry begins at one of them. The population starts as copies of
what was named alone, shared evenly: the baseline lives in it if it is named too. So imported programs keep their place
on the leaderboard from run to run, with results of the run's own.

Programs of the library are fitted to the width of the configuration. Those from runs and files are taken as they are,
the scale of their queries included: constants are part of what a search found, and which of them is such a scale
nobody can tell once it has mutated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...primitives import DNA
from ...primitives.program_json import dna_from_json, dna_to_json

__all__ = ["InitialProgram", "initial_programs_of", "origins_of"]


@dataclass(frozen=True, slots=True)
class InitialProgram:
    """A program that the population starts with copies of.

    Attributes:
        candidate_id: its number; that of the baseline, if it computes the same.
        origin: where it came from: a name of the library, `RUN:ID`, or a file.
        dna: the program.
    """

    candidate_id: int
    origin: str
    dna: DNA

    @property
    def sentence(self) -> str:
        """What stands in the place of mutations."""
        return f"Imported from {self.origin}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the run's manifest; `initial_programs_of` reads them back."""
        return {"candidate": self.candidate_id, "origin": self.origin, "dna": dna_to_json(self.dna)}


def initial_programs_of(manifest: Mapping[str, Any]) -> tuple[InitialProgram, ...]:
    """The initial programs of a run; none for one that started from its baseline."""
    return tuple(
        InitialProgram(each["candidate"], each["origin"], dna_from_json(each["dna"]))
        for each in manifest.get("initial_programs", ())
    )


def origins_of(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Where each initial program of a run came from, by candidate; the baseline is among them if it was named."""
    return {each["candidate"]: each["origin"] for each in manifest.get("initial_programs", ())}
