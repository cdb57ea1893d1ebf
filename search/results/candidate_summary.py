"""One candidate of a run: its program, what it reached, where it came from, and how it differs from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...primitives.diff_printer import format_difference
from ...primitives.errors import UsageError
from ...primitives.library import LIBRARY, get
from ...primitives.pretty_printer import format_program
from ...primitives.program import DNA
from ...primitives.program_json import dna_to_json
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from .leaderboard import leaderboard
from .leaderboard_rows import LeaderboardRow
from .lineage import LineageStep, lineage, lineage_start
from .program_reference import find_candidate_id

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = ["CandidateSummary", "summarize_candidate"]


@dataclass(frozen=True, slots=True)
class CandidateSummary:
    """What `show` tells.

    Attributes:
        candidate: with its program.
        row: its place on the leaderboard; None if it has no result of its own.
        lineage: the steps from the baseline to it.
        origin: where an initial program came from; None for others.
        beginning: where the lineage starts, in words.
        against: what it is compared with, in words; None if nothing was asked for.
        difference: to that program, as lines; None likewise.
        seconds: of its last trial, by phase.
    """

    candidate: Candidate
    row: LeaderboardRow | None
    lineage: tuple[LineageStep, ...]
    origin: str | None
    beginning: str
    against: str | None
    difference: str | None
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `show --json` prints."""
        import json
        from dataclasses import asdict

        row = {} if self.row is None else {**asdict(self.row), "verdict": self.row.verdict}
        return {
            "id": self.candidate.id,
            "parent": self.candidate.parent,
            "structure_hash": self.candidate.structure_hash,
            "same_as": self.candidate.same_as,
            "origin": self.origin,
            "mutations": list(self.candidate.mutations),
            **row,
            "lineage": [asdict(step) for step in self.lineage],
            "seconds": self.seconds,
            "dna": json.loads(dna_to_json(self.candidate.dna)),
            "listing": format_program(self.candidate.dna),
            "against": self.against,
            "difference": self.difference,
        }


def summarize_candidate(store: Store, named: str, against: str | None = None) -> CandidateSummary:
    """Look a candidate up.

    Args:
        store: of the run, open.
        named: its number, `best` or `baseline`.
        against: `parent`, `baseline`, another candidate's number, or a library program's name.

    Raises:
        UsageError: the candidate, or the program to compare it with, does not exist.
    """
    with store.snapshot():
        board = leaderboard(store)
        candidate = store.candidate(find_candidate_id(store, named))
        evaluated = candidate.id if candidate.same_as is None else candidate.same_as
        row = next((row for row in board.rows if row.id == evaluated), None)
        other = None if against is None else _other(store, candidate, against)
        last = [trial.evaluation for trial in store.evaluations() if trial.candidate_id == evaluated][-1:]
    seconds = {
        phase: getattr(result, f"{field}_seconds")
        for result in last
        for phase, field in (
            ("training", "train"),
            ("compiling", "compile"),
            ("evaluating", "evaluate"),
            ("probing", "probe"),
            ("wall", "wall"),
        )
    }
    steps = lineage(store, candidate.id)
    return CandidateSummary(
        candidate,
        row,
        steps,
        board.initial_programs.get(candidate.id),
        lineage_start(steps, board.initial_programs),
        None if other is None else other[0],
        None if other is None else format_difference(other[1], candidate.dna),
        seconds,
    )


def _other(store: Store, candidate: Candidate, against: str) -> tuple[str, DNA]:
    if against == "baseline":
        return "the baseline", store.candidate(BASELINE_ID).dna
    if against == "parent":
        if candidate.parent is None:
            raise UsageError(f"candidate {candidate.id} has no parent: compare with `baseline` or a NAME instead.")
        return f"its parent {candidate_name(candidate.parent)}", store.candidate(candidate.parent).dna
    if against in LIBRARY:
        return against, get(against, store.manifest["config"]["model"]["unit"])
    if against.removeprefix("#").isdecimal() and against.isascii():
        other = store.candidate(int(against.removeprefix("#")[:18]))
        return f"candidate {other.id}", other.dna
    known = ", ".join(LIBRARY)
    raise UsageError(
        f"--diff {against} is nothing to compare with: give parent, seed, a candidate's number or {known}."
    )
