"""What each change of a discovered block is worth, and the least of it that is as good.

    baseline, candidate      and between them, for each change,
    candidate without it   what the candidate loses by it: the ablation effect
    baseline with it        what the baseline gains by it: the insertion effect
    no-op                  a rewrite known to do nothing (`no_op`): its "effect" is the noise of the study

Every program trains with the same fresh seeds, and is scored on the test split. Programs that compute one function
train once; those that the language refuses are listed with the reason. Then the block is minimised: changes whose loss
is not shown to cost anything are dropped together, and what is left is trained, too. If it is worse than the candidate,
the larger half of what was dropped comes back, and so on (our choice: small effects may add up, so single ablations do
not decide alone).

Both effects are signed so that a positive one says the change helps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...primitives import DNA, InvalidProgramError, WorkFailedError, build_graph
from ...primitives.program_diff import Change
from ...primitives.program_json import dna_to_json
from ..config import RunConfig
from ..results.statistics import Estimate, paired_differences, simultaneous_level
from .ablation_programs import BASELINE, CANDIDATE, NO_OP, AblationPlan, format_arm
from .study import Study
from .study_queue import Arm, StudyState, Training

__all__ = ["Ablation", "Effect", "MinimizationRound", "ablate"]

MOST_ROUNDS = 3
"""Programs tried as the minimal one; after that, the candidate stays as it is."""

LEVEL = 0.95
"""Of confidence, for all intervals of an ablation together."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one change is worth, in bits per byte of the test text; positive is better.

    Attributes:
        change: the change.
        ablation: the candidate's loss without it, minus that with it. None if that program is invalid.
        insertion: the baseline's loss, minus that with the change. None likewise.
        ablation_note, insertion_note: why there is none, or which program it was that trained; else empty.
        refused: whether the language refuses the candidate without it.
        kept: whether the minimal program has it.
    """

    change: Change
    ablation: Estimate | None
    insertion: Estimate | None
    ablation_note: str
    insertion_note: str
    refused: bool
    kept: bool

    @property
    def verdict(self) -> str:
        """What the ablation allows to be said."""
        if self.ablation is None:
            return "needed: refused without it" if self.refused else "needed: does not train without it"
        if self.ablation.low is None or self.ablation.high is None:
            return "too few trainings to say"
        if not self.ablation.excludes_zero:
            return "no effect shown"
        return "helps" if self.ablation.mean > 0 else "harms"


@dataclass(frozen=True, slots=True)
class MinimizationRound:
    """A program tried as the minimal one.

    Attributes:
        kept: numbers of its changes.
        cost: its loss minus the candidate's, in bits per byte; None if it did not train.
        accepted: whether it is not shown to be worse.
    """

    kept: tuple[int, ...]
    cost: Estimate | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class Ablation:
    """A finished ablation.

    Attributes:
        name, baseline_name: of the two programs.
        whole: the baseline's loss minus the candidate's: what all changes together are worth.
        effects: of the changes that are not silent.
        silent: sentences of the changes that compute nothing.
        control: the effect of the no-op, None where no program has a place for it.
        rounds: of the minimisation.
        minimal: the least program that is not shown to be worse than the candidate.
        minimal_changes: numbers of its changes.
        seeds, config, dataset_hash, device: of the trainings.
        trainings: behind it all.
        notes: sentences a reader must know.
    """

    name: str
    baseline_name: str
    whole: Estimate
    effects: tuple[Effect, ...]
    silent: tuple[str, ...]
    control: Estimate | None
    rounds: tuple[MinimizationRound, ...]
    minimal: DNA
    minimal_changes: tuple[int, ...]
    seeds: tuple[int, ...]
    config: RunConfig
    dataset_hash: str
    device: str
    trainings: tuple[Training, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `ablate --json` prints."""
        import json

        return {
            "name": self.name,
            "baseline": self.baseline_name,
            "whole": asdict(self.whole),
            "effects": [{**asdict(effect), "verdict": effect.verdict} for effect in self.effects],
            "silent": list(self.silent),
            "no_op": None if self.control is None else asdict(self.control),
            "rounds": [asdict(each) for each in self.rounds],
            "minimal": {"changes": list(self.minimal_changes), "dna": json.loads(dna_to_json(self.minimal))},
            "seeds": list(self.seeds),
            "notes": list(self.notes),
            "dataset_hash": self.dataset_hash,
            "device": self.device,
            "config": self.config.to_dict(),
            "trainings": [
                {
                    "name": training.arm.name,
                    "seed": training.seed,
                    "dna": dna_to_json(training.arm.dna),
                    "evaluation": training.evaluation.to_dict(),
                }
                for training in self.trainings
            ],
        }


def ablate(
    config: RunConfig,
    baseline: tuple[str, DNA],
    candidate: tuple[str, DNA],
    *,
    seeds: Sequence[int],
    record: Path | None,
    most_trials: int | None = None,
    address: str | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Ablation:
    """Train the programs between a baseline and a candidate, say what each change is worth, and minimise the candidate.

    Args:
        config: of every training.
        baseline, candidate: names and programs.
        seeds: of the trainings.
        record: file of finished trainings, from which an interrupted ablation resumes.
        most_trials: trainings to spend at most. Insertions are left out first, then the minimisation.
        address: of a running Ray cluster.
        observe, tell: see `Study`.

    Raises:
        UsageError: the programs do not differ, a program is refused, or the trainings needed are over `most_trials`.
        WorkFailedError: baseline or candidate did not train.
        Interrupted: Ctrl-C; the record keeps what is finished.
    """
    plan = AblationPlan(config, baseline, candidate)
    plan.shrink(len(seeds), most_trials)
    with Study(config, reference=baseline[1], record=record, address=address, observe=observe, tell=tell) as study:
        tell(f"{len(plan.arms)} programs, {len(plan.arms) * len(seeds)} trainings, for {len(plan.kept)} changes")
        results = _Results(study, seeds, plan.comparisons + MOST_ROUNDS)
        results.train(plan.arms)
        for name in (BASELINE, CANDIDATE):
            results.require(name)
        effects = [_effect(plan, results, number) for number in sorted(plan.kept)]
        whole = results.gain(BASELINE, CANDIDATE)
        control = None if plan.control is None else results.cost(NO_OP, plan.control)
        assert whole is not None
        if whole.low is not None and whole.low <= 0.0:
            plan.notes.append(
                "the candidate is not shown to be better than its baseline here, so the minimal program says little: "
                "more repeats or a longer training would."
            )
        kept, rounds = _minimised(plan, results, effects, most_trials)
        dataset_hash = study.dataset_hash
    devices = {training.evaluation.device for training in results.trainings if training.evaluation.device}
    return Ablation(
        name=candidate[0],
        baseline_name=baseline[0],
        whole=whole,
        effects=tuple(replace(effect, kept=effect.change.number in kept) for effect in effects),
        silent=tuple(item.description for item in plan.between.changes if item.number not in plan.kept),
        control=control,
        rounds=tuple(rounds),
        minimal=_without_idle_flag(plan.between.apply(kept), config),
        minimal_changes=tuple(sorted(kept)),
        seeds=tuple(seeds),
        config=config,
        dataset_hash=dataset_hash,
        device=", ".join(sorted(devices)),
        trainings=tuple(results.trainings),
        notes=tuple(plan.notes + results.notes()),
    )


# --- what came of them ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Results:
    """The trainings so far, and what they say of pairs of arms."""

    study: Study
    seeds: Sequence[int]
    comparisons: int
    trainings: list[Training] = field(default_factory=list)

    def train(self, arms: Sequence[Arm]) -> None:
        self.trainings += self.study.train(arms, self.seeds)

    def require(self, name: str) -> None:
        if not self._losses().get(name):
            raise WorkFailedError(f"the {name} did not train: {self.failure(name)}")

    def failure(self, name: str | None) -> str:
        """What became of an arm's trainings that gave no loss, in words; empty if all did."""
        failed = [t for t in self.trainings if t.arm.name == name and t.evaluation.test_bits_per_byte is None]
        if not failed:
            return ""
        result = failed[0].evaluation
        message = f" ({result.message})" if result.message else ""
        return f"{result.outcome} with {len(failed)} of {len(self.seeds)} repeats{message}"

    def cost(self, arm: str, baseline: str) -> Estimate | None:
        """Loss of an arm minus the baseline's, paired by seed, in bits per byte."""
        level = simultaneous_level(LEVEL, self.comparisons)
        return paired_differences(self._losses(), baseline, level).get(arm)

    def gain(self, baseline: str, arm: str) -> Estimate | None:
        """The same the other way round: what the arm gains on the baseline."""
        found = self.cost(arm, baseline)
        if found is None:
            return None
        low, high = (None if end is None else -end for end in (found.high, found.low))
        return Estimate(-found.mean, low, high, found.n)

    def notes(self) -> list[str]:
        notes = ["one seed says nothing of noise: there are no intervals."] if len(self.seeds) < 2 else []
        names = dict.fromkeys(training.arm.name for training in self.trainings)
        failures = {name: self.failure(name) for name in names}
        return notes + [f"{format_arm(name)}: {failure}." for name, failure in failures.items() if failure]

    def _losses(self) -> Mapping[str, Mapping[int, float]]:
        losses: dict[str, dict[int, float]] = {}
        for training in self.trainings:
            loss = training.evaluation.test_bits_per_byte
            if training.evaluation.outcome == "ok" and loss is not None:
                losses.setdefault(training.arm.name, {})[training.seed] = loss
        return losses


def _effect(plan: AblationPlan, results: _Results, number: int) -> Effect:
    without, without_note = plan.without[number]
    alone, alone_note = plan.alone[number]
    return Effect(
        change=plan.between.changes[number - 1],
        ablation=None if without is None else results.cost(without, CANDIDATE),
        insertion=None if alone in (None, BASELINE) else results.gain(BASELINE, alone),
        ablation_note=without_note or results.failure(without),
        insertion_note="alone it changes nothing" if alone == BASELINE else alone_note or results.failure(alone),
        refused=without is None,
        kept=True,
    )


def _minimised(
    plan: AblationPlan, results: _Results, effects: Sequence[Effect], most_trials: int | None
) -> tuple[frozenset[int], list[MinimizationRound]]:
    """The changes of the least program that is not shown to be worse than the candidate, and the way there."""
    dropped = sorted(
        (effect.change.number for effect in effects if _can_go(effect, plan, results)),
        key=lambda number: _mean(effects, number),
    )
    rounds: list[MinimizationRound] = []
    while dropped and len(rounds) < MOST_ROUNDS:
        kept = plan.kept - set(dropped)
        before = len(plan.arms)
        arm, _ = plan.add_subset(f"minimal {len(rounds) + 1}", kept)
        if arm is None:
            dropped.pop()
            continue
        new = plan.arms[before:]
        if most_trials is not None and len(results.trainings) + len(new) * len(results.seeds) > most_trials:
            plan.notes.append("not minimised: --max-trials leaves no trainings to check the result with.")
            return plan.kept, rounds
        results.train(new)
        cost = results.cost(arm, CANDIDATE)
        worse = cost is None or bool(results.failure(arm)) or (cost.low is not None and cost.low > 0.0)
        rounds.append(MinimizationRound(tuple(sorted(kept)), cost, not worse))
        if not worse:
            return kept, rounds
        del dropped[len(dropped) // 2 :]
    if rounds:
        plan.notes.append("not minimised: every smaller program that was tried is worse than the candidate.")
    return plan.kept, rounds


def _can_go(effect: Effect, plan: AblationPlan, results: _Results) -> bool:
    """Whether losing the change is not shown to cost anything; without an interval, nothing is shown."""
    arm = plan.without[effect.change.number][0]
    low = None if effect.ablation is None else effect.ablation.low
    return low is not None and low <= 0.0 and not results.failure(arm)


def _mean(effects: Sequence[Effect], number: int) -> float:
    found = next(effect.ablation for effect in effects if effect.change.number == number)
    assert found is not None
    return found.mean


def _without_idle_flag(dna: DNA, config: RunConfig) -> DNA:
    """The program without its permission to depend on the length, where it makes no use of it."""
    plain = replace(dna, length_dependent=False)
    try:
        build_graph(plain, length_dependent=config.model.length_dependent)
    except InvalidProgramError:
        return dna
    return plain
