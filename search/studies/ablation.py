"""Ablation: the effect of each change of a block, and the smallest program that performs as well.

    baseline, candidate    the two programs
    without N              candidate without change N; its loss minus the candidate's is the ablation effect
    only N                 baseline with change N; the baseline's loss minus its loss is the insertion effect
    no-op                  a rewritten program of the same function (`null_rewrite`); its "effect" is the study's noise

All programs are trained with the same fresh random seeds and scored on the test split. Programs that compute the same
function are trained once; programs that the language refuses are listed with the reason. Both effects are signed so
that a positive effect means that the change helps.

Then the block is minimised. All changes that are not shown to help are dropped together, and the remaining program is
trained. If it is worse than the candidate, the half of the dropped changes with the larger effects is restored, and so
on. We train the smaller program, because small effects may add up, and then single ablations do not show the loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...primitives import DNA, InvalidProgramError, WorkFailedError, build_graph
from ...primitives.differences.program_diff import Change
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import loss_unit
from ..config import RunConfig
from ..results.program_reference import NamedProgram
from ..results.statistics import Estimate, paired_differences, simultaneous_level
from .ablation_programs import BASELINE, CANDIDATE, NO_OP, AblationPlan, format_arm
from .study import QUIET, Study, StudyOptions
from .study_queue import ONE_REPEAT, Arm, Training, format_devices, losses_by_arm

__all__ = ["Ablation", "Effect", "MinimizationRound", "ablate", "effect_verdict"]

MAX_ROUNDS = 3
"""Largest number of programs tried as the minimal one; if all are worse, no change is dropped."""

LEVEL = 0.95
"""Confidence of all intervals of an ablation together."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Effects of one change on the test loss, in `Ablation.loss_unit`; positive is better.

    Attributes:
        change: the change.
        ablation: loss of the candidate without the change minus loss of the candidate; None if one did not train.
        insertion: loss of the baseline minus loss of the baseline with the change; None if one did not train.
        ablation_note, insertion_note: reason for a missing value, or name of the program trained instead; else empty.
        refused: whether the language refuses the candidate without the change.
        kept: whether the minimal program has the change.
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
        """Result of `effect_verdict` for the ablation, or `needed: ...` if there is none."""
        if self.ablation is None:
            return "needed: refused without it" if self.refused else "needed: does not train without it"
        return effect_verdict(self.ablation)


@dataclass(frozen=True, slots=True)
class MinimizationRound:
    """A program tried as the minimal one.

    Attributes:
        kept: numbers of the program's changes.
        cost: the program's loss minus the candidate's; None if it did not train.
        accepted: whether the program is not shown to be worse.
    """

    kept: tuple[int, ...]
    cost: Estimate | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class Ablation:
    """A finished ablation.

    Attributes:
        name, baseline_name: names of the candidate and the baseline.
        whole: loss of the baseline minus loss of the candidate: the effect of all changes together.
        effects: effects of the changes that are not silent.
        silent: descriptions of the changes that do not change the function.
        control: effect of the no-op; None if neither program can be rewritten.
        rounds: rounds of the minimisation.
        minimal, minimal_changes: smallest tried program that is not shown to be worse than the candidate, and the
            numbers of its changes.
        seeds, config, dataset_hash, device: settings of the trainings.
        trainings: all trainings.
        notes: sentences that a reader must know.
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

    @property
    def loss_unit(self) -> str:
        """Unit of the test losses: `bits/byte`, or `nats` for ids without text."""
        return loss_unit((one.evaluation.test_loss_nats, one.evaluation.test_bits_per_byte) for one in self.trainings)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, as `ablate --json` prints them."""
        return {
            "name": self.name,
            "baseline": self.baseline_name,
            "loss_unit": self.loss_unit,
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


def effect_verdict(effect: Estimate) -> str:
    """Return `helps`, `harms`, `no effect shown`, or `too few trainings to say`."""
    if effect.low is None:
        return "too few trainings to say"
    return "no effect shown" if not effect.excludes_zero else "helps" if effect.mean > 0 else "harms"


def ablate(
    config: RunConfig,
    baseline: NamedProgram,
    candidate: NamedProgram,
    options: StudyOptions = QUIET,
    *,
    seeds: Sequence[int],
    log: Path | None,
    most_trials: int | None = None,
    run: Mapping[str, Any] | None = None,
) -> Ablation:
    """Train the programs between a baseline and a candidate, estimate the effects, and minimise the candidate.

    Args:
        config: configuration of every training.
        baseline: program that the changes are counted from.
        candidate: program whose changes are examined.
        options: options of the study.
        seeds: random seeds of the trainings.
        log: path of the log of finished trainings, from which an interrupted ablation resumes.
        most_trials: largest number of trainings; the programs `only N` are left out first, then the minimisation.
        run: manifest of the run of the candidate, whose text is used; None: the text of `config`.

    Raises:
        UsageError: the programs do not differ, one is refused, or `most_trials` is too small.
        WorkFailedError: the baseline or the candidate did not train.
        Interrupted: Ctrl-C; finished trainings are in the log.
    """
    plan = AblationPlan(config, baseline, candidate)
    plan.limit_trainings(len(seeds), most_trials)
    with Study(config, baseline.dna, log, options, run=run) as study:
        options.tell(
            f"{len(plan.arms)} programs, {len(plan.arms) * len(seeds)} trainings, for {len(plan.kept)} changes"
        )
        results = _Results(study, seeds, plan.comparisons + MAX_ROUNDS)
        results.train(plan.arms)
        for name in (BASELINE, CANDIDATE):
            if not losses_by_arm(results.trainings).get(name):
                raise WorkFailedError(f"the {name} did not train: {results.failure(name)}")
        effects = [_effect(plan, results, number) for number in sorted(plan.kept)]
        whole = results.gain(CANDIDATE)
        control = None if plan.control is None else results.cost(NO_OP, plan.control)
        assert whole is not None
        if whole.low is not None and whole.low <= 0.0:
            plan.notes.append(
                "the candidate is not shown to be better than its baseline here, so the minimal program says little; "
                "more repeats or a longer training would help."
            )
        kept, rounds = _minimise(plan, results, effects, most_trials)
        dataset_hash = study.dataset_hash
    return Ablation(
        name=candidate.name,
        baseline_name=baseline.name,
        whole=whole,
        effects=tuple(replace(effect, kept=effect.change.number in kept) for effect in effects),
        silent=tuple(item.description for item in plan.between.changes if item.number not in plan.kept),
        control=control,
        rounds=tuple(rounds),
        minimal=_without_unused_permission(plan.between.apply(kept), config),
        minimal_changes=tuple(sorted(kept)),
        seeds=tuple(seeds),
        config=config,
        dataset_hash=dataset_hash,
        device=format_devices(results.trainings),
        trainings=tuple(results.trainings),
        notes=tuple(plan.notes + results.notes()),
    )


# --- results ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Results:
    """Trainings so far, and the estimates from them.

    Attributes:
        study: study that trains.
        seeds: random seeds of the trainings.
        comparisons: number of intervals that must hold together.
        trainings: finished trainings.
    """

    study: Study
    seeds: Sequence[int]
    comparisons: int
    trainings: list[Training] = field(default_factory=list)

    def train(self, arms: Sequence[Arm]) -> None:
        self.trainings += self.study.train(arms, self.seeds)

    def failure(self, name: str | None) -> str:
        """Return text about an arm's trainings that gave no loss; empty if all gave one."""
        failed = [t for t in self.trainings if t.arm.name == name and t.evaluation.test_score is None]
        if not failed:
            return ""
        result = failed[0].evaluation
        message = f" ({result.message})" if result.message else ""
        return f"{result.outcome} with {len(failed)} of {len(self.seeds)} repeats{message}"

    def cost(self, arm: str, reference: str) -> Estimate | None:
        """Return the loss of an arm minus the loss of a reference arm, paired by seed."""
        level = simultaneous_level(LEVEL, self.comparisons)
        return paired_differences(losses_by_arm(self.trainings), reference, level).get(arm)

    def gain(self, arm: str) -> Estimate | None:
        """Return the loss of the baseline minus the loss of an arm, paired by seed."""
        found = self.cost(arm, BASELINE)
        if found is None:
            return None
        low, high = (None if end is None else -end for end in (found.high, found.low))
        return Estimate(-found.mean, low, high, found.n)

    def notes(self) -> list[str]:
        notes = [ONE_REPEAT] if len(self.seeds) < 2 else []
        names = dict.fromkeys(training.arm.name for training in self.trainings)
        failures = {name: self.failure(name) for name in names}
        return notes + [f"{format_arm(name)}: {failure}." for name, failure in failures.items() if failure]


def _effect(plan: AblationPlan, results: _Results, number: int) -> Effect:
    without, without_note = plan.without[number]
    alone, alone_note = plan.alone[number]
    return Effect(
        change=plan.between.changes[number - 1],
        ablation=None if without is None else results.cost(without, CANDIDATE),
        insertion=None if alone in (None, BASELINE) else results.gain(alone),
        ablation_note=without_note or results.failure(without),
        insertion_note="alone it changes nothing" if alone == BASELINE else alone_note or results.failure(alone),
        refused=without is None,
        kept=True,
    )


def _minimise(
    plan: AblationPlan, results: _Results, effects: Sequence[Effect], most_trials: int | None
) -> tuple[frozenset[int], list[MinimizationRound]]:
    """Return the changes of the smallest tried program that is not shown to be worse, and the rounds that found it."""
    losses = {
        effect.change.number: effect.ablation.mean
        for effect in effects
        if effect.ablation is not None
        and effect.ablation.low is not None
        and effect.ablation.low <= 0.0
        and not results.failure(plan.without[effect.change.number][0])
    }
    dropped = sorted(losses, key=losses.__getitem__)
    rounds: list[MinimizationRound] = []
    while dropped and len(rounds) < MAX_ROUNDS:
        kept = plan.kept - set(dropped)
        before = len(plan.arms)
        arm, _ = plan.add_subset(f"minimal {len(rounds) + 1}", kept)
        if arm is None:
            dropped.pop()
            continue
        new = plan.arms[before:]
        if most_trials is not None and len(results.trainings) + len(new) * len(results.seeds) > most_trials:
            plan.notes.append("not minimised: --max-trials does not allow trainings of the smaller program.")
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


def _without_unused_permission(dna: DNA, config: RunConfig) -> DNA:
    """Return the program without its permission to depend on the length, if it does not use that."""
    plain = replace(dna, length_dependent=False)
    try:
        build_graph(plain, length_dependent=config.model.length_dependent)
    except InvalidProgramError:
        return dna
    return plain
