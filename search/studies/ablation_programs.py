"""Which programs an ablation trains: every function once, under the first name that computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ...primitives import DNA, MalformedProgramError, UsageError
from ...primitives.null_rewrite import null_rewrite
from ...primitives.program_diff import ProgramDiff, diff_programs, essential_changes
from ...primitives.program_json import dna_to_json
from ..check_program import check
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..results.program_reference import find_candidate_id
from ..runs.store import Store
from .compared_programs import named_programs
from .study_log import json_hash
from .study_queue import Arm

__all__ = [
    "BASELINE",
    "CANDIDATE",
    "NO_OP",
    "AblationPair",
    "AblationPlan",
    "folder_of",
    "format_arm",
    "pair_from_names",
    "pair_from_run",
]

BASELINE, CANDIDATE, NO_OP = "baseline", "candidate", "no-op"
"""Names of arms; the others are `without N`, `only N` and `minimal N`."""


class AblationPlan:
    """The arms of the first round.

    Args:
        config: of every training.
        baseline, candidate: names and programs.

    Raises:
        UsageError: one of the two is refused, or they compute one function.

    Attributes:
        arms: what is to train.
        between: the changes from the baseline to the candidate; `kept` those that are not silent.
        without, alone: for each of these, the arm of the candidate without it and of the baseline with it, and a note,
            as `add` gives them.
        control: the arm the no-op is compared with, None without a no-op.
        notes: sentences a reader must know.
    """

    def __init__(self, config: RunConfig, baseline: tuple[str, DNA], candidate: tuple[str, DNA]):
        self.config = config
        self.arms: list[Arm] = []
        self.notes: list[str] = []
        self._known: dict[str, str] = {}
        for role, (name, dna) in ((BASELINE, baseline), (CANDIDATE, candidate)):
            arm, why = self.add(role, dna)
            if arm is None:
                raise UsageError(f"{name} cannot be trained with these settings: {why}")
            if arm != role:
                raise UsageError(f"{name} and {baseline[0]} compute the same function: there is nothing to ablate")
        self.between: ProgramDiff = diff_programs(baseline[1], candidate[1])
        self.kept = essential_changes(self.between, length_dependent=config.model.length_dependent)
        self.without: dict[int, tuple[str | None, str]] = {}
        self.alone: dict[int, tuple[str | None, str]] = {}
        for number in sorted(self.kept):
            self.without[number] = self.add_subset(f"without {number}", self.kept - {number})
        for number in sorted(self.kept):
            self.alone[number] = self.add_subset(f"only {number}", {number})
        self.control: str | None = None
        self._add_control((CANDIDATE, candidate[1]), (BASELINE, baseline[1]))

    @property
    def comparisons(self) -> int:
        """How many intervals must hold together."""
        estimated = [arm for arm, _ in (*self.without.values(), *self.alone.values()) if arm is not None]
        return len(estimated) + 1 + (self.control is not None)

    def add_subset(self, name: str, applied: frozenset[int] | set[int]) -> tuple[str | None, str]:
        """The arm of the baseline with some changes: `add`, for a program that may not even be well-formed."""
        try:
            return self.add(name, self.between.apply(applied))
        except MalformedProgramError as error:
            return None, f"no such program: {error}"

    def add(self, name: str, dna: DNA) -> tuple[str | None, str]:
        """Plan a program: return its arm's name (None if the program is invalid), and the reason if it has no arm."""
        result = check(dna, self.config)
        if not result.accepted or result.structure_hash is None:
            return None, f"refused ({result.reason}): {result.message}"
        function = result.fingerprint or result.structure_hash
        known = self._known.setdefault(function, name)
        if known != name:
            return known, f"the same function as {format_arm(known)}"
        self.arms.append(Arm(name, dna))
        return name, ""

    def shrink(self, repeats: int, most_trials: int | None) -> None:
        """Keep to the trainings there may be: insertions give way.

        Raises:
            UsageError: that is not enough.
        """
        if most_trials is None or len(self.arms) * repeats <= most_trials:
            return
        dropped = {arm.name for arm in self.arms if arm.name.startswith("only ")}
        self.arms = [arm for arm in self.arms if arm.name not in dropped]
        self._known = {function: name for function, name in self._known.items() if name not in dropped}
        for number, (arm, _) in self.alone.items():
            if arm in dropped:
                self.alone[number] = None, "left out: --max-trials allows no insertions"
        self.notes.append(f"insertions are left out, as --max-trials allows {most_trials} trainings.")
        if len(self.arms) * repeats > most_trials:
            raise UsageError(
                f"{len(self.arms)} programs with {repeats} repeats need {len(self.arms) * repeats} trainings, "
                f"more than --max-trials {most_trials}: allow more trainings, or fewer --repeats"
            )

    def _add_control(self, *programs: tuple[str, DNA]) -> None:
        for name, dna in programs:
            twin = null_rewrite(dna, length_dependent=self.config.model.length_dependent)
            if twin is not None:
                self.arms.append(Arm(NO_OP, twin))
                self.control = name
                return
        self.notes.append("no no-op control: neither program computes the mean of (x - mean)² that it rewrites.")


def format_arm(arm: str) -> str:
    """An arm by its name, as a sentence has it."""
    role, _, number = arm.partition(" ")
    if not number:
        return f"the {arm}"
    roles = {
        "without": "the candidate without change",
        "only": "the baseline with change",
        "minimal": "minimal program",
    }
    return f"{roles[role]} {number}"


BASELINE = "TRANSFORMER"


"""What a named program is compared with."""


@dataclass(frozen=True, slots=True)
class AblationPair:
    """Two programs with what people call them.

    Attributes:
        baseline, candidate: names and programs.
        folder: where results go unless the user says otherwise.
    """

    baseline: tuple[str, DNA]
    candidate: tuple[str, DNA]
    folder: Path


def pair_from_run(
    run: str,
    named: str,
    *,
    trial_seconds: float | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: Literal["ray", "inline"] | None = None,
) -> tuple[AblationPair, RunConfig]:
    """A candidate of a run, its baseline, and the settings both were trained with.

    Args:
        run, named: what the user calls them; the candidate by its number or `best`.
        trial_seconds: another training budget.
        workers, workers_per_device, executor: others to train with.

    Raises:
        UsageError: the run or candidate does not exist, it is the baseline, or its budget counts steps.
    """
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, named)
        if number == BASELINE_ID:
            raise UsageError(f"candidate {named} is the baseline itself: name another, or `best`.")
        baseline, candidate = store.candidate(BASELINE_ID).dna, store.candidate(number).dna
        config, path = RunConfig.from_dict(store.manifest["config"]), store.run.path
    if trial_seconds is not None and config.trial.unit == "steps":
        raise UsageError(f"run {path} counts its trial budgets in steps: leave out --trial-budget.")
    if trial_seconds is not None:
        config = replace(config, trial=replace(config.trial, budget_seconds=trial_seconds))
    if executor == "inline":  # which has no workers to count
        config = replace(config, workers=replace(config.workers, executor="inline", count=1, per_device=1))
    elif executor is not None:
        config = replace(config, workers=replace(config.workers, executor=executor))
    if workers is not None:
        config = replace(config, workers=replace(config.workers, count=workers))
    if workers_per_device is not None:
        config = replace(config, workers=replace(config.workers, per_device=workers_per_device))
    pair = AblationPair(
        ("the baseline", baseline), (f"candidate {number} of {path.name}", candidate), path / f"ablation-{number}"
    )
    return pair, config


def pair_from_names(named: str, config: RunConfig) -> AblationPair:
    """A library program, or a file of DNA, against the Transformer of the same unit.

    Raises:
        UsageError: the program does not exist.
    """
    baseline, other = named_programs([named], BASELINE, config.model.unit)
    unit = config.model.unit
    folder = Path("ablations") / folder_of(other.name, config, (baseline.at(unit), other.at(unit)))
    return AblationPair((baseline.name, baseline.at(unit)), (other.name, other.at(unit)), folder)


def folder_of(name: str, config: RunConfig, programs: Sequence[DNA]) -> str:
    """Output folder of an ablation, named by programs and settings: the same command resumes there."""
    settings = [asdict(section) for section in (config.model, config.trial, config.optimizer, config.data)]
    known = json_hash({"settings": settings, "dna": [dna_to_json(dna) for dna in programs]})
    safe = "".join(sign if sign.isalnum() else "_" for sign in name)
    return f"{safe[:80]}-{known[:6]}"
