"""Named blocks side by side: several seeds each, paired with a baseline, and what may be claimed of them.

What is compared are subjects: programs of the library, candidates of runs, files of DNA. Each can be brought to the
baseline's cost by its unit of width (`match`), and to a learning rate of its own (`sweep`), so that a change of scale
does not win by either. Final results are scored once on the test split; curves, speedup factors and the choice of
learning rates read the validation split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ...models.cost import model_cost
from ...primitives.program_json import dna_to_json
from ...workers.protocol import LARGEST_INPUT_WAIT, Evaluation
from ..config import RunConfig
from ..results.program_reference import NamedProgram
from ..results.speedup import Speedup, loss_curve, speedup
from ..results.statistics import Estimate, mean_interval, paired_differences
from ..runs.provenance import command_line, versions
from .compared_programs import matched_units
from .study import Study
from .study_log import json_hash
from .study_queue import Arm, StudyState, Training

__all__ = ["Comparison", "ComparisonRow", "compare", "curve_points", "default_folder"]

POINTS = 12
"""Points of a curve, the end of training among them."""

FIRST_POINT = 0.04
"""Share of the budget at which the first of them stands."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """What a comparison says of one subject; numbers that are not known are None.

    Attributes:
        name: of the subject.
        unit: of relative width it was trained at.
        learning_rate: its peak; `at_edge` tells whether the sweep's best was its lowest or highest.
        test_bits_per_byte: mean over seeds.
        validation_bits_per_byte: mean over seeds.
        difference: test bits per byte minus the baseline's, over the seeds both finished; None for the baseline.
        speedup: factor against the baseline; None for the baseline.
        parameters: of the whole model; flops_per_token: forward, of the whole model.
        step_ms: mean over seeds; relative_step: its time over the reference program's, where that was measured.
        peak_memory_bytes: the largest.
        steps, tokens, epochs: means over seeds.
        tokens_per_second: of training by the trial's clock, mean over seeds; model_tflops: 10^12 FLOPs of the model in
            such a second, three times the forward ones, recomputation and the optimizer's left out.
        failures: seed, outcome and message of each training that was not finished.
    """

    name: str
    unit: int
    learning_rate: float
    at_edge: bool
    test_bits_per_byte: Estimate | None
    validation_bits_per_byte: Estimate | None
    difference: Estimate | None
    speedup: Speedup | None
    parameters: int | None
    flops_per_token: float | None
    step_ms: float | None
    relative_step: float | None
    peak_memory_bytes: int | None
    steps: float | None
    tokens: float | None
    epochs: float | None
    tokens_per_second: float | None
    model_tflops: float | None
    failures: tuple[tuple[int, str, str], ...]

    @property
    def verdict(self) -> str:
        """What the difference allows to be said."""
        if self.difference is None:
            return ""
        if self.difference.low is None:
            return "one seed"
        if not self.difference.excludes_zero:
            return "not told apart"
        return "better" if self.difference.mean < 0 else "worse"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison.

    Attributes:
        rows: in the order the subjects were named, the baseline first.
        baseline: its name.
        seeds: every subject trained with.
        config: of the trainings.
        dataset_hash: of their text.
        device: they ran on.
        versions: of Python and packages, when the comparison was made.
        allowance_seconds: what a step of the reference program was charged, in reference seconds.
        sweep: for each subject by name, learning rate factor and validation loss in nats (None where it failed).
        notes: sentences a reader must know.
        trainings: behind the rows, the seeds of each subject at its own learning rate.
        command: that made it.
    """

    rows: tuple[ComparisonRow, ...]
    baseline: str
    seeds: tuple[int, ...]
    config: RunConfig
    dataset_hash: str
    device: str
    versions: dict[str, str]
    allowance_seconds: float | None
    sweep: dict[str, tuple[tuple[float, float | None], ...]]
    notes: tuple[str, ...]
    trainings: tuple[Training, ...]
    command: str = ""

    def of(self, name: str) -> list[Training]:
        """The trainings of one subject, by seed."""
        return [training for training in self.trainings if training.arm.name == name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `compare --json` prints."""
        return {
            "command": self.command,
            "baseline": self.baseline,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in self.rows],
            "seeds": list(self.seeds),
            "sweep": {name: [list(pair) for pair in pairs] for name, pairs in self.sweep.items()},
            "notes": list(self.notes),
            "unit": self.config.trial.unit,
            "budget": self.config.trial.budget,
            "allowance_seconds": self.allowance_seconds,
            "dataset_hash": self.dataset_hash,
            "device": self.device,
            "versions": self.versions,
            "config": self.config.to_dict(),
            "trainings": [
                {
                    "name": training.arm.name,
                    "seed": training.seed,
                    "learning_rate_factor": training.arm.learning_rate_factor,
                    "unit": training.arm.unit,
                    "dna": dna_to_json(training.arm.dna),
                    "evaluation": training.evaluation.to_dict(),
                }
                for training in self.trainings
            ],
        }


def curve_points(config: RunConfig) -> tuple[float, ...]:
    """Points of the budget at which curves are measured, evenly spaced in its logarithm, the end left out."""
    budget = config.trial.budget
    points = [budget * FIRST_POINT ** (1 - number / (POINTS - 1)) for number in range(POINTS - 1)]
    if config.trial.unit == "steps":
        points = sorted({float(math.ceil(point)) for point in points} - {budget})
    return tuple(points)


def default_folder(config: RunConfig, subjects: Sequence[NamedProgram]) -> Path:
    """Output folder of a comparison, named by subjects and settings: the same command resumes there."""
    names = [subject.name for subject in subjects[1:4]] + (["etc"] if len(subjects) > 4 else [])
    safe = "-".join("".join(sign if sign.isalnum() else "_" for sign in name) for name in names)
    settings = [asdict(section) for section in (config.model, config.trial, config.optimizer, config.data)]
    known = json_hash({"settings": settings, "dna": [dna_to_json(subject.dna) for subject in subjects]})
    return Path("comparisons") / f"{safe[:80]}-{known[:6]}"


def compare(
    config: RunConfig,
    subjects: Sequence[NamedProgram],
    *,
    seeds: Sequence[int],
    record: Path | None,
    sweep: int = 1,
    match: str | None = None,
    address: str | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Train all subjects with all seeds and say how they stand.

    Args:
        config: of every training.
        subjects: the baseline first, whose step is the reference of reference seconds.
        seeds: of the trainings.
        record: file of finished trainings, from which an interrupted comparison resumes.
        sweep: learning rates tried for each subject, spaced by factors of two around the configured one; the first seed
            decides by validation loss.
        match: one of `MATCHES`, brought as near to the baseline's as a whole unit of width allows.
        address: of a running Ray cluster.
        observe, tell: see `Study`.

    Raises:
        UsageError, WorkFailedError, Interrupted: as `Study`.
    """
    subjects, twins = _distinct(subjects)
    units, notes = matched_units(subjects, config.model, match)
    arms = [
        Arm(subject.name, subject.at(unit), unit=None if unit == config.model.unit else unit)
        for subject, unit in zip(subjects, units, strict=True)
    ]
    with Study(
        config,
        points=curve_points(config),
        reference=arms[0].dna,
        record=record,
        address=address,
        observe=observe,
        tell=tell,
    ) as study:
        factors = [2.0 ** (number - (sweep - 1) // 2) for number in range(sweep)]
        tried = _swept(study, arms, factors, seeds[0]) if sweep > 1 else {}
        best = [_best_factor(tried.get(arm.name, ())) for arm in arms]
        arms = [replace(arm, learning_rate_factor=factor) for arm, factor in zip(arms, best, strict=True)]
        trainings = study.train(arms, seeds)
        allowance, dataset_hash = study.allowance_seconds, study.dataset_hash
    edges = {arm.name for arm in arms if sweep > 2 and arm.learning_rate_factor in (factors[0], factors[-1])}
    rows = tuple(_row(arm, trainings, arms[0], config, arm.name in edges) for arm in arms)
    devices = {training.evaluation.device for training in trainings if training.evaluation.device}
    return Comparison(
        rows,
        arms[0].name,
        tuple(seeds),
        config,
        dataset_hash,
        ", ".join(sorted(devices)),
        versions(),
        allowance,
        tried,
        (*twins, *notes, *_notes(rows, trainings, tried, seeds)),
        tuple(trainings),
        command_line(),
    )


def _distinct(subjects: Sequence[NamedProgram]) -> tuple[list[NamedProgram], list[str]]:
    """One of each program: a twin would share its trainings, and pass for knowledge of the noise."""
    kept: dict[str, NamedProgram] = {}
    notes = []
    for subject in subjects:
        first = kept.setdefault(dna_to_json(subject.dna), subject)
        if first is not subject:
            notes.append(f"{subject.name} is the same program as {first.name}, and is trained under that name.")
    return list(kept.values()), notes


def _swept(
    study: Study, arms: Sequence[Arm], factors: Sequence[float], seed: int
) -> dict[str, tuple[tuple[float, float | None], ...]]:
    variants = [replace(arm, learning_rate_factor=factor) for arm in arms for factor in factors]
    losses: dict[str, list[tuple[float, float | None]]] = {arm.name: [] for arm in arms}
    for training in study.train(variants, [seed]):
        losses[training.arm.name].append((training.arm.learning_rate_factor, training.evaluation.loss_nats))
    return {name: tuple(tried) for name, tried in losses.items()}


def _best_factor(tried: Sequence[tuple[float, float | None]]) -> float:
    """That of the lowest loss; of equal ones, the nearest to 1."""
    finished = [(loss, abs(math.log2(factor)), factor) for factor, loss in tried if loss is not None]
    return min(finished)[2] if finished else 1.0


# --- what came of it ---


def _row(arm: Arm, trainings: Sequence[Training], baseline: Arm, config: RunConfig, at_edge: bool) -> ComparisonRow:
    found = _results(trainings, arm)
    finished = {seed: result for seed, result in found.items() if result.outcome == "ok"}
    results = list(finished.values())
    unit = arm.unit or config.model.unit
    cost = model_cost(arm.dna, config.model, unit)
    memory = [result.peak_memory_bytes for result in found.values() if result.peak_memory_bytes is not None]
    rates = [result.tokens / result.train_seconds for result in results if result.train_seconds]
    tokens_per_second = fmean(rates) if rates else None
    return ComparisonRow(
        name=arm.name,
        unit=unit,
        learning_rate=config.optimizer.learning_rate * arm.learning_rate_factor,
        at_edge=at_edge,
        test_bits_per_byte=_mean_of(results, "test_bits_per_byte"),
        validation_bits_per_byte=_mean_of(results, "bits_per_byte"),
        difference=None if arm == baseline else _differences(trainings, baseline).get(arm.name),
        speedup=None if arm == baseline else _speedup(finished, _results(trainings, baseline)),
        parameters=int(cost["params"]),
        flops_per_token=cost["flops"],
        step_ms=_middle(results, "step_ms"),
        relative_step=_middle(results, "relative_step"),
        peak_memory_bytes=max(memory, default=None),
        steps=_average(results, "steps"),
        tokens=_average(results, "tokens"),
        epochs=_average(results, "epochs"),
        tokens_per_second=tokens_per_second,
        model_tflops=None if tokens_per_second is None else 3.0 * cost["flops"] * tokens_per_second / 1e12,
        failures=tuple(
            (seed, result.outcome, result.message) for seed, result in found.items() if seed not in finished
        ),
    )


def _results(trainings: Sequence[Training], arm: Arm) -> dict[int, Evaluation]:
    return {training.seed: training.evaluation for training in trainings if training.arm == arm}


def _differences(trainings: Sequence[Training], baseline: Arm) -> dict[str, Estimate]:
    losses: dict[str, dict[int, float]] = {}
    for training in trainings:
        loss = training.evaluation.test_bits_per_byte
        if training.evaluation.outcome == "ok" and loss is not None:
            losses.setdefault(training.arm.name, {})[training.seed] = loss
    return paired_differences(losses, baseline.name)


def _speedup(finished: dict[int, Evaluation], baseline: dict[int, Evaluation]) -> Speedup:
    curves = [(loss_curve(result), loss_curve(baseline[seed])) for seed, result in finished.items() if seed in baseline]
    pairs = [(ours, theirs) for ours, theirs in curves if ours is not None and theirs is not None]
    return speedup([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


def _values(results: Sequence[Evaluation], name: str) -> list[float]:
    return [value for result in results if (value := getattr(result, name)) is not None]


def _mean_of(results: Sequence[Evaluation], name: str) -> Estimate | None:
    values = _values(results, name)
    return mean_interval(values) if values else None


def _average(results: Sequence[Evaluation], name: str) -> float | None:
    values = _values(results, name)
    return fmean(values) if values else None


def _middle(results: Sequence[Evaluation], name: str) -> float | None:
    values = _values(results, name)
    return median(values) if values else None


def _notes(
    rows: Sequence[ComparisonRow],
    trainings: Sequence[Training],
    tried: dict[str, tuple[tuple[float, float | None], ...]],
    seeds: Sequence[int],
) -> list[str]:
    notes = []
    if tried:
        rates = ", ".join(f"{row.name} {row.learning_rate:g}" for row in rows)
        notes.append(f"learning rates, chosen by the validation loss of seed {seeds[0]}: {rates}.")
        edges = [row.name for row in rows if row.at_edge]
        if edges:
            notes.append(
                f"{', '.join(edges)}: the best rate stands at the edge of the sweep; one beyond may be better."
            )
    if len(seeds) < 2:
        notes.append("one repeat says nothing of noise: there are no intervals.")
    waits = [training.evaluation.input_wait_share or 0.0 for training in trainings]
    if max(waits, default=0.0) > LARGEST_INPUT_WAIT:
        notes.append(f"step times hold waiting for batches, up to {max(waits):.1%} of a training.")
    for row in rows:
        if row.speedup is not None and row.speedup.why_none:
            notes.append(f"{row.name}: no speedup factor, as {row.speedup.why_none}.")
        if row.failures:
            seed, outcome, message = row.failures[0]
            words = f"{outcome}: {message}" if message else outcome
            notes.append(
                f"{row.name} did not finish {len(row.failures)} of {len(seeds)} trainings (seed {seed}: {words})."
            )
    return notes
