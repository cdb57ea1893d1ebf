"""Programs that an ablation trains: each function once, under the first name that computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, MalformedProgramError, UsageError
from ...primitives.differences.essential_changes import essential_changes
from ...primitives.differences.null_rewrite import null_rewrite
from ...primitives.differences.program_diff import ProgramDiff, diff_programs
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..one_program.check_program import check
from ..results.program_reference import NamedProgram, find_candidate_id
from ..runs.store import Store
from .compared_programs import folder_name, named_programs
from .study_queue import Arm

__all__ = [
    "BASELINE",
    "CANDIDATE",
    "NO_OP",
    "AblationPair",
    "AblationPlan",
    "format_arm",
    "pair_from_names",
    "pair_from_run",
]

LIBRARY_BASELINE = "TRANSFORMER"
"""Baseline of library programs and DNA files."""

BASELINE, CANDIDATE, NO_OP = "baseline", "candidate", "no-op"
"""Names of arms; the other names are `without N`, `only N` and `minimal N`."""


class AblationPlan:
    """Programs of the first round of an ablation, as arms of a study.

    Args:
        config: configuration of every training.
        baseline: program that the changes are counted from.
        candidate: program whose changes are examined.

    Raises:
        UsageError: one of the two is refused, or they compute the same function.

    Attributes:
        arms: programs to train.
        between: changes from the baseline to the candidate.
        kept: numbers of the changes that are not silent.
        without: arm and note, as `add` returns them, of the candidate without each change in `kept`.
        alone: arm and note of the baseline with each change in `kept` alone.
        control: arm that the no-op is compared with; None if neither program allows a no-op.
        notes: sentences that a reader must know.
    """

    def __init__(self, config: RunConfig, baseline: NamedProgram, candidate: NamedProgram):
        self.config = config
        self.arms: list[Arm] = []
        self.notes: list[str] = []
        self._known: dict[str, str] = {}
        for role, program in ((BASELINE, baseline), (CANDIDATE, candidate)):
            arm, why = self.add(role, program.dna)
            if arm is None:
                raise UsageError(f"{program.name} cannot be trained with these settings: {why}")
            if arm != role:
                raise UsageError(
                    f"{program.name} computes the same function as {baseline.name}: choose another candidate"
                )
        self.between: ProgramDiff = diff_programs(baseline.dna, candidate.dna)
        self.kept = essential_changes(self.between, length_dependent=config.model.length_dependent)
        self.without: dict[int, tuple[str | None, str]] = {}
        self.alone: dict[int, tuple[str | None, str]] = {}
        for number in sorted(self.kept):
            self.without[number] = self.add_subset(f"without {number}", self.kept - {number})
        for number in sorted(self.kept):
            self.alone[number] = self.add_subset(f"only {number}", {number})
        self.control: str | None = None
        self._add_control((CANDIDATE, candidate.dna), (BASELINE, baseline.dna))

    @property
    def comparisons(self) -> int:
        """Number of intervals that must hold together."""
        estimated = [arm for arm, _ in (*self.without.values(), *self.alone.values()) if arm is not None]
        return len(estimated) + 1 + (self.control is not None)

    def add_subset(self, name: str, applied: frozenset[int] | set[int]) -> tuple[str | None, str]:
        """Plan the baseline with some of the changes, which may be malformed; return the same values as `add`."""
        try:
            return self.add(name, self.between.apply(applied))
        except MalformedProgramError as error:
            return None, f"malformed: {error}"

    def add(self, name: str, dna: DNA) -> tuple[str | None, str]:
        """Plan a program; return the name of its arm (None if it is invalid), and a note unless the arm is new."""
        result = check(dna, self.config)
        if not result.accepted or result.structure_hash is None:
            return None, f"refused ({result.reason}): {result.message}"
        function = result.fingerprint or result.structure_hash
        known = self._known.setdefault(function, name)
        if known != name:
            return known, f"the same function as {format_arm(known)}"
        self.arms.append(self._arm(name, dna, result.unit))
        return name, ""

    def limit_trainings(self, repeats: int, most_trials: int | None) -> None:
        """Leave out the arms `only N` if there would be more than `most_trials` trainings.

        Raises:
            UsageError: there would still be too many.
        """
        if most_trials is None or len(self.arms) * repeats <= most_trials:
            return
        dropped = {arm.name for arm in self.arms if arm.name.startswith("only ")}
        self.arms = [arm for arm in self.arms if arm.name not in dropped]
        self._known = {function: name for function, name in self._known.items() if name not in dropped}
        for number, (arm, _) in self.alone.items():
            if arm in dropped:
                self.alone[number] = None, "left out because of --max-trials"
        self.notes.append(f"programs of one change each are left out, because --max-trials is {most_trials}.")
        if len(self.arms) * repeats > most_trials:
            raise UsageError(
                f"{len(self.arms)} programs with {repeats} repeats need {len(self.arms) * repeats} trainings, "
                f"more than --max-trials {most_trials}: raise it, or reduce --repeats"
            )

    def _arm(self, name: str, dna: DNA, unit: int | None) -> Arm:
        model = self.config.model
        return Arm(name, dna_at_unit(dna, model, unit), unit=None if unit == model.unit else unit)

    def _add_control(self, *programs: tuple[str, DNA]) -> None:
        for name, dna in programs:
            rewritten = null_rewrite(dna, length_dependent=self.config.model.length_dependent)
            if rewritten is not None:
                self.arms.append(self._arm(NO_OP, rewritten, check(rewritten, self.config).unit))
                self.control = name
                return
        self.notes.append(
            "there is no no-op as control: a no-op rewrites the mean of (x - mean)², which neither program has."
        )


def format_arm(arm: str) -> str:
    """Return the name of an arm as used in sentences."""
    role, _, number = arm.partition(" ")
    if not number:
        return f"the {arm}"
    roles = {
        "without": "the candidate without change",
        "only": "the baseline with change",
        "minimal": "minimal program",
    }
    return f"{roles[role]} {number}"


@dataclass(frozen=True, slots=True)
class AblationPair:
    """The two programs of an ablation.

    Attributes:
        baseline: program that the changes are counted from.
        candidate: program whose changes are examined.
        folder: default output folder.
        run: manifest of the run of the candidate; None for a library program.
    """

    baseline: NamedProgram
    candidate: NamedProgram
    folder: Path
    run: Mapping[str, Any] | None = None


def pair_from_run(store: Store, named: str) -> AblationPair:
    """Return a candidate of a run, named by its number or `best`, and the baseline of the run.

    Raises:
        UsageError: the candidate does not exist, or is the baseline.
    """
    number = find_candidate_id(store, named)
    if number == BASELINE_ID:
        raise UsageError(f"candidate {named} is the baseline itself: name another, or `best`")
    path = store.run.path
    return AblationPair(
        NamedProgram("the baseline", store.candidate(BASELINE_ID).dna),
        NamedProgram(f"candidate {number} of {path.name}", store.candidate(number).dna),
        path / f"ablation-{number}",
        store.manifest,
    )


def pair_from_names(named: str, config: RunConfig) -> AblationPair:
    """Return a library program or the program of a DNA file, with the Transformer of the same unit as baseline.

    Raises:
        UsageError: the program does not exist.
    """
    baseline, candidate = named_programs([named], LIBRARY_BASELINE, config.model)
    folder = Path("ablations") / folder_name([candidate.name], config, [baseline.dna, candidate.dna])
    return AblationPair(baseline, candidate, folder)
