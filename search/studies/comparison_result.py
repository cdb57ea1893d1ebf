"""The result of a comparison: a row for each program, and notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, TypeVar

from ...models.cost import model_cost
from ...primitives.programs.program_json import dna_to_json
from ...workers.position_buckets import bucket_names
from ...workers.protocol import LARGEST_INPUT_WAIT, Evaluation, loss_unit
from ..config import RunConfig
from ..results.speedup import Speedup, loss_curve, speedup
from ..results.statistics import Estimate, mean_interval
from .study_queue import ONE_REPEAT, Arm, Training

__all__ = ["Comparison", "ComparisonRow", "comparison_notes", "comparison_row"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """Result of one program. Unknown numbers are None.

    Attributes:
        name: name of the program.
        unit: unit of width that it was trained at.
        learning_rate: peak learning rate.
        at_edge: whether that is the lowest or highest learning rate of the sweep.
        test_loss_nats, test_bits_per_byte, validation_bits_per_byte: means over repeats.
        difference: test loss minus the baseline's in `Comparison.loss_unit`, over the seeds that both finished; None
            for the baseline.
        speedup: speedup factor against the baseline; None for the baseline.
        parameters: number of parameters of the whole model.
        flops_per_token: FLOPs of the whole model's forward pass.
        step_ms, relative_step: median step time, and its ratio to the baseline's.
        peak_memory_bytes: largest value of all repeats.
        steps, tokens, epochs: means over repeats.
        tokens_per_second: training speed by the trial's clock, mean over repeats.
        model_tflops: 10^12 model FLOPs per second of training. A step counts as three forward passes;
            recomputation and the optimizer are not counted.
        failures: random seed, outcome and message of each training that failed.
        test_losses_by_position: test loss in nats per token by group of positions (`position_buckets`), means over
            repeats.
    """

    name: str
    unit: int
    learning_rate: float
    at_edge: bool
    test_loss_nats: Estimate | None
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
    test_losses_by_position: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        """Verdict of the difference: `better`, `worse`, `not told apart`, or `one repeat`; empty for the baseline."""
        if self.difference is None:
            return ""
        if self.difference.low is None:
            return "one repeat"
        if not self.difference.excludes_zero:
            return "not told apart"
        return "better" if self.difference.mean < 0 else "worse"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished comparison.

    Attributes:
        rows: results, the baseline first, then in the order of the arguments.
        baseline: name of the baseline.
        seeds, config, dataset_hash, device: settings of the trainings.
        versions: versions of Python and packages.
        allowance_seconds: time charged for a step of the baseline, in reference seconds.
        sweep: learning rate factors with validation losses in nats (None after a failure), by name of the program.
        notes: sentences that a reader must know.
        trainings: trainings of the rows, without the sweep's trainings at other learning rates.
        command: command line that made the comparison.
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

    @property
    def loss_unit(self) -> str:
        """Unit of the test losses: `bits/byte`, or `nats` for ids without text."""
        return loss_unit((one.evaluation.test_loss_nats, one.evaluation.test_bits_per_byte) for one in self.trainings)

    def of(self, name: str) -> list[Training]:
        """Return the trainings of one program, in the order of their seeds."""
        return [training for training in self.trainings if training.arm.name == name]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, as `compare --json` prints them."""
        return {
            "command": self.command,
            "baseline": self.baseline,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in self.rows],
            "positions": bucket_names(self.config.model.length),
            "seeds": list(self.seeds),
            "sweep": {name: [list(pair) for pair in pairs] for name, pairs in self.sweep.items()},
            "notes": list(self.notes),
            "loss_unit": self.loss_unit,
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


def comparison_row(
    arm: Arm,
    trainings: Sequence[Training],
    baseline: Arm,
    differences: Mapping[str, Estimate],
    config: RunConfig,
    at_edge: bool,
) -> ComparisonRow:
    """Return the result of one program, from all trainings of the comparison."""
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
        test_loss_nats=_summary(mean_interval, results, "test_loss_nats"),
        test_bits_per_byte=_summary(mean_interval, results, "test_bits_per_byte"),
        validation_bits_per_byte=_summary(mean_interval, results, "bits_per_byte"),
        difference=None if arm == baseline else differences.get(arm.name),
        speedup=None if arm == baseline else _speedup(finished, _results(trainings, baseline)),
        parameters=int(cost["params"]),
        flops_per_token=cost["flops"],
        step_ms=_summary(median, results, "step_ms"),
        relative_step=_summary(median, results, "relative_step"),
        peak_memory_bytes=max(memory, default=None),
        steps=_summary(fmean, results, "steps"),
        tokens=_summary(fmean, results, "tokens"),
        epochs=_summary(fmean, results, "epochs"),
        tokens_per_second=tokens_per_second,
        model_tflops=None if tokens_per_second is None else 3.0 * cost["flops"] * tokens_per_second / 1e12,
        failures=tuple(
            (seed, result.outcome, result.message) for seed, result in found.items() if seed not in finished
        ),
        test_losses_by_position=tuple(
            fmean(losses) for losses in zip(*(result.test_losses_by_position for result in results), strict=False)
        ),
    )


def _results(trainings: Sequence[Training], arm: Arm) -> dict[int, Evaluation]:
    return {training.seed: training.evaluation for training in trainings if training.arm == arm}


def _speedup(finished: dict[int, Evaluation], baseline: dict[int, Evaluation]) -> Speedup:
    curves = [(loss_curve(result), loss_curve(baseline[seed])) for seed, result in finished.items() if seed in baseline]
    pairs = [(ours, theirs) for ours, theirs in curves if ours is not None and theirs is not None]
    return speedup([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


def _summary(summarize: Callable[[list[float]], T], results: Sequence[Evaluation], name: str) -> T | None:
    """Return a summary of the known values of a field, or None without any."""
    values = [value for result in results if (value := getattr(result, name)) is not None]
    return summarize(values) if values else None


def comparison_notes(
    rows: Sequence[ComparisonRow],
    trainings: Sequence[Training],
    tried: dict[str, tuple[tuple[float, float | None], ...]],
    seeds: Sequence[int],
) -> list[str]:
    """Return the sentences that a reader of the rows must know."""
    notes = []
    if tried:
        rates = ", ".join(f"{row.name} {row.learning_rate:g}" for row in rows)
        notes.append(f"learning rates, chosen by the validation loss of seed {seeds[0]}: {rates}.")
        edges = [row.name for row in rows if row.at_edge]
        if edges:
            notes.append(
                f"{', '.join(edges)}: the best rate is at the edge of the sweep; a rate outside may be better."
            )
    if len(seeds) < 2:
        notes.append(ONE_REPEAT)
    waits = [training.evaluation.input_wait_share or 0.0 for training in trainings]
    if max(waits, default=0.0) > LARGEST_INPUT_WAIT:
        notes.append(f"step times include waiting for batches, up to {max(waits):.1%} of a training.")
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
