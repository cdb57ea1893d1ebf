"""Summary of one candidate: its program, result and lineage, and its difference to another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...models.config import ModelConfig
from ...models.cost import ProgramLine, program_lines
from ...primitives.differences.diff_printer import format_difference
from ...primitives.errors import InvalidProgramError, UsageError
from ...primitives.programs.library import LIBRARY
from ...primitives.programs.pretty_printer import format_program
from ...primitives.programs.program import DNA
from ...primitives.programs.program_json import dna_to_json
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from ..runs.time_accounting import PHASES
from .confirmation import Confirmation
from .leaderboard import leaderboard
from .leaderboard_rows import LeaderboardRow
from .lineage import LineageStep, lineage_start, trace_lineage
from .program_reference import find_candidate_id

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = ["CandidateSummary", "summarize_candidate"]

_TIMES = {**PHASES, "wall": "wall_seconds"}
"""Fields of an evaluation with the time of each phase, and with the total."""


@dataclass(frozen=True, slots=True)
class CandidateSummary:
    """Summary of a candidate, as `show` prints it.

    Attributes:
        candidate: candidate with its program.
        row: row on the leaderboard, or the row of the earlier candidate that it equals; None without a result.
        confirmation: result of its retrainings; None if it was not retrained.
        lineage: edits that lead from the baseline to the candidate.
        origin: origin of an initial program; None for other candidates.
        beginning: start of the lineage, as text.
        against: program of the comparison, as text; None without a comparison.
        difference: difference to that program, as text of several lines; None without a comparison.
        seconds: time of the last trial, by phase.
        unit: unit of width that the candidate is trained at.
        configured_unit: unit of width of the run; the constants of the program are for it.
        lines: instructions with shapes and costs; empty if a width is not a whole number of channels.
        length: sequence length of the run.
        layers: number of blocks of the model.
    """

    candidate: Candidate
    row: LeaderboardRow | None
    confirmation: Confirmation | None
    lineage: tuple[LineageStep, ...]
    origin: str | None
    beginning: str
    against: str | None
    difference: str | None
    seconds: dict[str, float]
    unit: int
    configured_unit: int
    lines: tuple[ProgramLine, ...]
    length: int
    layers: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as `show --json` prints them."""
        import json
        from dataclasses import asdict

        row = {} if self.row is None else {**asdict(self.row), "verdict": self.row.verdict}
        return {
            "id": self.candidate.id,
            "parent": self.candidate.parent,
            "structure_hash": self.candidate.structure_hash,
            "same_as": self.candidate.same_as,
            "unit": self.unit,
            "origin": self.origin,
            "mutations": list(self.candidate.mutations),
            **row,
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
            "lineage": [asdict(step) for step in self.lineage],
            "seconds": self.seconds,
            "dna": json.loads(dna_to_json(self.candidate.dna)),
            "listing": format_program(self.candidate.dna),
            "lines": [asdict(line) for line in self.lines],
            "against": self.against,
            "difference": self.difference,
        }


def summarize_candidate(store: Store, named: str, against: str | None = None) -> CandidateSummary:
    """Return the summary of a candidate.

    Args:
        store: store of the run.
        named: number of the candidate, `best` or `baseline`.
        against: program to compare with: `parent`, `baseline`, a candidate's number, or a library program's name.

    Raises:
        UsageError: the candidate, or the program to compare it with, does not exist.
    """
    with store.snapshot():
        board = leaderboard(store)
        candidate = store.candidate(find_candidate_id(store, named))
        evaluated = candidate.evaluated_id
        row = next((row for row in board.rows if row.id == evaluated), None)
        other = None if against is None else _compared_program(store, candidate, against)
        last = [trial.evaluation for trial in store.evaluations() if trial.candidate_id == evaluated][-1:]
    seconds = {phase: getattr(result, field) for result in last for phase, field in _TIMES.items()}
    steps = trace_lineage(store.ancestry(), candidate.id)
    model = RunConfig.from_dict(store.manifest["config"]).model
    unit = candidate.unit or model.unit
    return CandidateSummary(
        candidate,
        row,
        next((each for each in board.confirmed if each.candidate_id == evaluated), None),
        steps,
        board.initial_programs.get(candidate.id),
        lineage_start(steps, board.initial_programs),
        None if other is None else other[0],
        None if other is None else format_difference(other[1], candidate.dna),
        seconds,
        unit,
        model.unit,
        _lines(candidate, model, unit),
        model.length,
        model.layers,
    )


def _lines(candidate: Candidate, model: ModelConfig, unit: int) -> tuple[ProgramLine, ...]:
    try:
        return program_lines(candidate.dna, model, unit)
    except InvalidProgramError:
        return ()


def _compared_program(store: Store, candidate: Candidate, against: str) -> tuple[str, DNA]:
    if against == "baseline":
        return "the baseline", store.candidate(BASELINE_ID).dna
    if against == "parent":
        if candidate.parent is None:
            raise UsageError(
                f"candidate {candidate.id} has no parent: compare with `baseline`, a number or a library program"
            )
        return f"its parent {candidate_name(candidate.parent)}", store.candidate(candidate.parent).dna
    if against in LIBRARY:
        return against, RunConfig.from_dict(store.manifest["config"]).model.library_program(against)
    if against.removeprefix("#").isdecimal() and against.isascii():
        other = store.candidate(int(against.removeprefix("#")[:18]))
        return f"candidate {other.id}", other.dna
    raise UsageError(
        f"--diff {against} does not name a program: give parent, baseline, a candidate's number or {', '.join(LIBRARY)}"
    )
