"""The protocol of workers: trial requests, evaluations, and the interfaces `Trainer` and `Executor`.

Neither Ray nor JAX is imported here, so that the command line responds before either has loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from ..system.error_text import error_summary
from .price_prior import PricePrior, StepCounts, step_counts

__all__ = [
    "INFRASTRUCTURE_FAULTS",
    "LARGEST_INPUT_WAIT",
    "OUTCOME_ADVICE",
    "Evaluation",
    "Executor",
    "HurdleThreshold",
    "MakeTrainer",
    "Platform",
    "Progress",
    "Trainer",
    "TrialRequest",
    "WorkerStatus",
    "fault_evaluation",
    "loss_unit",
]

Platform = Literal["cpu", "gpu", "tpu"]
"""Kind of devices that workers train on. The caller resolves `auto` first."""

OUTCOME_ADVICE = {
    "ok": "trained the full budget",
    "stopped_at_hurdle": "worse than the median at a hurdle; its fitness is the loss it had there",
    "rejected": "refused by a check or a probe, or none of its trials gave a result; the reason follows the colon",
    "non_finite": "its loss or gradients became infinite or not a number; it ranks after every number",
    "timeout": "exceeded its wall-clock limit and was killed; raise trial.slack if good candidates time out",
    "out_of_memory": "exceeded its worker's memory and was killed; raise workers.memory_gib or lower trial.batch",
    "worker_lost": "its worker died for a reason unrelated to the candidate; the trial is repeated",
    "failed": "its training raised an unexpected exception, whose traceback is in run.log; the trial is repeated",
}
"""Every outcome and its explanation for users. Rejections are written `rejected:<why>`."""

INFRASTRUCTURE_FAULTS = frozenset({"worker_lost", "failed"})
"""Outcomes unrelated to the candidate, after which the trial is repeated. All others count for the candidate."""

LARGEST_INPUT_WAIT = 0.02
"""Largest share of training time spent waiting for batches that tables do not mention."""


@dataclass(frozen=True, slots=True)
class HurdleThreshold:
    """Point of the budget where a trial is evaluated, and stops unless its score is below the threshold.

    The score is a linear function of the losses so far: the latest loss, or a prediction of the final fitness.

    Attributes:
        at: position of the hurdle, in the trial's unit (seconds of training or steps).
        loss_nats: score that a trial must stay below, in nats per token; None: no threshold.
        weights: weights of the last losses in the score, the latest last.
        offset: constant of the score, in nats per token.
        price_slope: weight of the log price in the score, for candidates slower than the baseline.
    """

    at: float
    loss_nats: float | None
    weights: tuple[float, ...] = (1.0,)
    offset: float = 0.0
    price_slope: float = 0.0

    def score(self, losses: Sequence[float], log_price: float = 0.0) -> float:
        """Return the score of a trial, from its losses at the hurdles so far and the logarithm of its price."""
        priced = self.price_slope * max(0.0, log_price)
        last = losses[-len(self.weights) :]
        return self.offset + priced + sum(w * loss for w, loss in zip(self.weights, last, strict=True))


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A request to train one DNA once.

    Attributes:
        trial_id: number of the trial in its run.
        candidate_id: number of the candidate in its run.
        dna: the DNA as JSON text.
        seed: random seed of the parameters and of the order of batches.
        hurdles: hurdles in the order in which the trial reaches them.
        allowance_seconds: seconds charged for a step of the baseline, for budgets in reference seconds; None: not
            measured yet, and actual seconds are charged.
        suspicious_nats: validation loss below which the model is suspicious and is probed further; None: no bound.
        learning_rate_factor: multiplier of the configured learning rate.
        unit: unit of relative widths; None: the configured one.
        price_prior: the run's prediction of prices, for hurdles; None: hurdles use the timed price alone.
        test: whether to score the trained model on the test split, once, at the end.
        calibrate: whether to measure only the time of a step of the baseline (`step_ms`), without training.
    """

    trial_id: int
    candidate_id: int
    dna: str
    seed: int
    hurdles: tuple[HurdleThreshold, ...] = ()
    allowance_seconds: float | None = None
    suspicious_nats: float | None = None
    learning_rate_factor: float = 1.0
    unit: int | None = None
    price_prior: PricePrior | None = None
    test: bool = False
    calibrate: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of one trial. Missing numbers are None, never NaN.

    Attributes:
        outcome: a key of `OUTCOME_ADVICE` (`rejected:<why>` for rejections).
        message: one sentence that explains an outcome other than `ok`.
        loss_nats: validation loss in nats per token at the end of training; the candidate's fitness.
        bits_per_byte: the same loss in bits per byte of text, comparable across tokenizers.
        word_perplexity: the same loss as perplexity per word (LM1B's unit), for datasets with word perplexity.
        test_loss_nats, test_bits_per_byte, test_word_perplexity: the same for the test split, if requested.
        test_losses_by_position: test loss in nats per token by group of positions (`position_buckets`), if requested.
        hurdle_losses, hurdle_steps: validation loss in nats per token, and optimizer steps, at each hurdle reached.
        curve: points `(budget spent, steps, training loss in nats)` of the learning curve.
        steps, tokens, epochs: amount of training: optimizer steps, tokens (no padding), passes over the training text.
        train_seconds, compile_seconds, evaluate_seconds, probe_seconds: time of each phase by the trial's clock, which
            is the worker's CPU time for budgets in CPU or reference seconds on a CPU, and wall clock otherwise.
        timing_seconds: time in which the baseline's steps were timed, by the same clock.
        waiting_seconds: wall clock in which the worker had no processor, if the trial's clock is CPU time; otherwise 0.
        wall_seconds: wall clock of the whole trial.
        spent: budget used, in the trial's unit.
        step_ms: median milliseconds of a training step, by the trial's clock.
        relative_step: time of a step divided by the time of the baseline's step, both timed in turns on the same
            device; None unless budgets are in reference seconds or `trial.price` is on.
        input_wait_share: share of training time spent waiting for batches; on an accelerator an upper bound. None
            without training.
        moved_logits: largest change of a logit of the trained model when later tokens, or other examples of the batch,
            are replaced (0 except for rounding); None if training did not finish.
        quarantine: why the loss was suspicious, if further probes found no fault in the model; otherwise empty.
        parameters, block_parameters: number of parameters of the whole model and of one block.
        flops_per_token: forward floating-point operations of one block, per token.
        step_flops, step_bytes, step_transcendentals: floating-point operations, bytes accessed and transcendental
            functions of the training step, as XLA counts them before it optimizes the step.
        peak_memory_bytes: peak memory of the worker (resident on a CPU, device memory elsewhere).
        device: name of the device.
    """

    outcome: str
    message: str = ""
    loss_nats: float | None = None
    bits_per_byte: float | None = None
    word_perplexity: float | None = None
    test_loss_nats: float | None = None
    test_bits_per_byte: float | None = None
    test_word_perplexity: float | None = None
    hurdle_losses: tuple[float, ...] = ()
    hurdle_steps: tuple[int, ...] = ()
    curve: tuple[tuple[float, int, float], ...] = ()
    steps: int = 0
    tokens: int = 0
    epochs: float = 0.0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    probe_seconds: float = 0.0
    timing_seconds: float = 0.0
    waiting_seconds: float = 0.0
    wall_seconds: float = 0.0
    spent: float = 0.0
    step_ms: float | None = None
    relative_step: float | None = None
    input_wait_share: float | None = None
    moved_logits: float | None = None
    quarantine: str = ""
    parameters: int | None = None
    block_parameters: int | None = None
    flops_per_token: float | None = None
    step_flops: float | None = None
    step_bytes: float | None = None
    step_transcendentals: float | None = None
    peak_memory_bytes: int | None = None
    device: str = ""
    test_losses_by_position: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """The outcome without its reason: `rejected` for `rejected:causality`."""
        return self.outcome.partition(":")[0]

    @property
    def step_counts(self) -> StepCounts | None:
        """Operation counts of the training step; None if it was not compiled."""
        return step_counts(self.step_flops, self.step_bytes, self.step_transcendentals)

    @property
    def diverged(self) -> bool:
        """Whether a loss or a gradient became infinite or not a number."""
        return self.kind == "non_finite"

    @property
    def test_score(self) -> float | None:
        """The loss on test data that comparisons use: in bits per byte, or in nats per token for ids without text."""
        return self.test_loss_nats if self.test_bits_per_byte is None else self.test_bits_per_byte

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, which `from_dict` reads back exactly."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Evaluation:
        """Invert `to_dict`, also after JSON turned tuples into lists."""
        kept = {name: value for name, value in values.items() if name in _FIELDS}
        for name in ("hurdle_losses", "hurdle_steps", "test_losses_by_position"):
            kept[name] = tuple(kept.get(name, ()))
        kept["curve"] = tuple((spent, steps, loss) for spent, steps, loss in kept.get("curve", ()))
        return Evaluation(**kept)


_FIELDS = frozenset(field.name for field in fields(Evaluation))


def fault_evaluation(error: BaseException, wall_seconds: float) -> Evaluation:
    """Return the evaluation of a trial whose trainer raised. Only a MemoryError is the candidate's fault."""
    outcome = "out_of_memory" if isinstance(error, MemoryError) else "failed"
    return Evaluation(outcome, f"its training raised {error_summary(error)}", wall_seconds=wall_seconds)


def loss_unit(losses: Iterable[tuple[float | None, float | None]]) -> str:
    """Return the unit in which losses are compared: `bits/byte`, or `nats` for token ids without text.

    Args:
        losses: each loss as a pair, in nats per token and in bits per byte.
    """
    return "nats" if any(nats is not None and bits is None for nats, bits in losses) else "bits/byte"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a trial.

    Attributes:
        phase: current phase in one word (`compile`, `probe`, `train`, `evaluate`, ...).
        spent: budget used so far, in the trial's unit.
        budget: the trial's whole budget, in the same unit.
        loss_nats: latest training loss in nats per token; None before the first.
        validation_nats: latest validation loss in nats per token; None unless it is also measured before the end.
    """

    phase: str
    spent: float = 0.0
    budget: float = 0.0
    loss_nats: float | None = None
    validation_nats: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """Status of one worker.

    Attributes:
        worker: number of the worker, from 0.
        trial_id, candidate_id: numbers of the trial and the candidate; None unless a trial runs.
        phase: phase of the trial, or `idle`, `starting`, `absent`.
        spent, budget, loss_nats: attributes of `Progress`.
        wall_seconds: time since the trial began, or since the worker entered this phase.
    """

    worker: int
    trial_id: int | None
    candidate_id: int | None
    phase: str
    spent: float
    budget: float
    wall_seconds: float
    loss_nats: float | None = None


class Trainer(Protocol):
    """Trains candidates. Faults of a candidate are returned as evaluations, not raised."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        """Run one trial and report its progress repeatedly."""
        ...


MakeTrainer = Callable[[], Trainer]
"""Factory of trainers, pickled and called once in every worker.

The trainer keeps its data and compiled functions from trial to trial.
"""


class Executor(Protocol):
    """Runs trials on `slots` workers. When its context exits, all its processes end.

    Only `wait` replaces lost workers and makes new ones ready, so call it at least once a second. Call all methods from
    one thread.
    """

    @property
    def slots(self) -> int:
        """Number of trials that can run at once when all workers are ready."""
        ...

    @property
    def free(self) -> int:
        """Number of workers ready for a trial now."""
        ...

    def start(self) -> None:
        """Start the workers without waiting until they are ready. Entering the context calls this method."""
        ...

    def submit(self, request: TrialRequest) -> None:
        """Start a trial on a free worker.

        Raises:
            RuntimeError: all workers are busy.
        """
        ...

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Return finished trials as soon as one exists, or an empty list at the timeout or when a worker is free.

        Raises:
            WorkFailedError: a worker failed to start several times in a row.
            PrimerSearchError: `make_trainer` raised an error of this package, such as missing data.
        """
        ...

    def status(self) -> list[WorkerStatus]:
        """Return the latest known status of each worker, without waiting."""
        ...

    def cancel(self) -> list[TrialRequest]:
        """Kill all running trials and return their requests."""
        ...

    def close(self) -> None:
        """Cancel all trials and end all processes of this executor."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *_: object) -> None: ...
