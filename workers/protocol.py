"""What runs trials: the executor protocol, and what travels over it.

`make_executor` picks one: `inline` trains in the calling process; `ray` trains on actors that stay
warm from trial to trial, are killed when a trial passes its limits, and are replaced at once. Neither Ray nor
JAX is imported here, so that the command line answers before either would have loaded.

An executor is told *how to make a trainer*, not given one: `make_trainer` is pickled and called once in every
worker, where the trainer then keeps its data and compiled functions between trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import Any, Literal, Protocol

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
    "error_summary",
    "fault_evaluation",
]

Platform = Literal["cpu", "gpu", "tpu"]
"""Where workers train; `auto` is resolved by the caller, who may not touch an accelerator either."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a trial stands.

    Attributes:
        phase: what it is doing, in one word (`compile`, `probe`, `train`, `evaluate`, ...).
        spent: budget used so far, in the trial's unit.
        budget: the trial's whole budget, in the same unit.
        loss_nats: its latest loss in nats per token, None before the first.
    """

    phase: str
    spent: float = 0.0
    budget: float = 0.0
    loss_nats: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What one worker is doing; `trial_id` and `candidate_id` are None unless it trains.

    Attributes:
        worker: its number, from 0.
        phase: the trial's phase, or `idle`, `starting`, `absent`.
        wall_seconds: since the trial began, or since the worker has been in this phase.
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
    """Trains one candidate; faults of the candidate's making come back as evaluations, not as exceptions."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        """Train it, telling now and then how far it is."""
        ...


MakeTrainer = Callable[[], Trainer]


class Executor(Protocol):
    """Runs trials on `slots` workers; a context manager that leaves no process behind.

    `wait` is what moves things: workers that fell are replaced and new ones become ready inside it, so call it
    at least once a second. All methods belong to one thread.
    """

    @property
    def slots(self) -> int:
        """How many trials can run at once when every worker is up."""
        ...

    @property
    def free(self) -> int:
        """How many workers are ready for a trial now."""
        ...

    def start(self) -> None:
        """Begin to start the workers; returns before they are ready. Entering the context calls it."""
        ...

    def submit(self, request: TrialRequest) -> None:
        """Start a trial on a free worker; a RuntimeError if none is free."""
        ...

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Trials that ended, as soon as there is one; nothing after the timeout, or once a worker became free.

        Raises:
            WorkFailedError: a worker could not be started, several times in a row.
            PrimerSearchError: whatever of ours `make_trainer` raised, such as missing data.
        """
        ...

    def status(self) -> list[WorkerStatus]:
        """What each worker does, as last heard; never waits for one."""
        ...

    def cancel(self) -> list[TrialRequest]:
        """Kill every trial in flight at once, and return their requests."""
        ...

    def close(self) -> None:
        """Cancel, and end every process that was started here."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def fault_evaluation(error: BaseException, wall_seconds: float) -> Evaluation:
    """The evaluation of a trial whose trainer raised: out of memory is the candidate's fault, the rest is not."""
    outcome = "out_of_memory" if isinstance(error, MemoryError) else "worker_lost"
    return Evaluation(outcome, f"the trainer raised {error_summary(error)}", wall_seconds=wall_seconds)


def error_summary(error: BaseException) -> str:
    """The kind of an error and the first line it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


OUTCOME_ADVICE = {
    "ok": "trained the full budget",
    "stopped_at_hurdle": "worse than the median at a hurdle; its fitness is the loss it had there",
    "rejected": "refused by a check or a probe, or every worker that tried it died; the reason follows the colon",
    "non_finite": "its loss or gradients became infinite or not a number; it ranks after every number",
    "timeout": "used up its wall clock and was killed; raise trial.slack if good candidates meet this",
    "out_of_memory": "used more memory than a worker may and was killed; raise workers.memory_gib or lower trial.batch",
    "worker_lost": "its worker died for a reason that is not the candidate's; it is tried again",
}


"""Every outcome, and what it tells a user. `rejected` is written `rejected:<why>`."""


INFRASTRUCTURE_FAULTS = frozenset({"worker_lost"})


"""Outcomes that say nothing of the candidate: the trial is repeated. All others count as the candidate's own."""


LARGEST_INPUT_WAIT = 0.02


"""Share of the time of training above which tables say that it waited for batches."""


@dataclass(frozen=True, slots=True)
class HurdleThreshold:
    """A point of the budget at which a trial stops unless its loss is below the threshold.

    Attributes:
        at: where it stands, in the trial's unit (seconds of training or steps).
        loss_nats: the loss to be better than; None lets everybody pass.
    """

    at: float
    loss_nats: float | None


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """Train this DNA once.

    Attributes:
        trial_id: the trial's number in its run.
        candidate_id: the candidate's number in its run.
        dna: the DNA as JSON text.
        seed: of the parameters and of the order of batches.
        hurdles: in the order they are met.
        allowance_seconds: of training time that one step of the seed is charged, where budgets are in reference
            seconds; None before it is known, which charges plain seconds.
        suspicious_nats: a final validation loss below it is quarantined and rechecked; None suspects nobody.
        learning_rate_factor: times the configured learning rate.
        unit: of relative width instead of the configured one; None keeps that.
        test: whether to score the trained model on the test split, too, once, at the end.
        calibrate: train nothing; time the steps of the seed, and report them as `step_ms`.
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
    test: bool = False
    calibrate: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one trial; numbers that were not reached are None, never NaN.

    Attributes:
        outcome: a key of `OUTCOME_ADVICE` (`rejected:<why>` for rejections).
        message: one sentence on what happened, for outcomes other than `ok`.
        loss_nats: validation loss in nats per token at the end of training; the candidate's fitness.
        bits_per_byte: the same loss in bits per byte of text, comparable across tokenizers.
        word_perplexity: the same loss as perplexity per word, for text that counts words (LM1B's unit).
        test_loss_nats, test_bits_per_byte, test_word_perplexity: the same on the test split, for trials that asked
            for it.
        hurdle_losses: validation loss in nats per token at each hurdle that was reached.
        hurdle_steps: optimizer steps at each of them.
        curve: points `(budget spent, steps, training loss in nats)` of the learning curve.
        steps, tokens, epochs: how much was trained, and how often the training text was seen.
        train_seconds, compile_seconds, evaluate_seconds, probe_seconds: where the time went, in the trial's clock
            (CPU seconds of the worker on a CPU, unless the budget is in wall-clock seconds or steps; else wall clock).
        wall_seconds: wall clock of the whole trial.
        spent: budget used, in the trial's unit.
        step_ms: median milliseconds of a training step, in the trial's clock.
        relative_step: the time of a step over that of the seed's step, timed in turns with it on the same device; None
            where budgets are not in reference seconds.
        input_wait_share: share of the time of training that went into waiting for batches; on an accelerator at most so
            much. None if nothing was trained.
        moved_logits: largest change of a logit of the trained model when later tokens, or other examples of the batch,
            were replaced (0 but for rounding); None if it was not trained to the end.
        quarantine: why the loss was suspected, for one that was cleared by further checks; empty for others.
        parameters: of the whole model; block_parameters: of one block.
        flops_per_token: forward floating-point operations of one block, per token.
        peak_memory_bytes: of the worker (resident on CPU, device memory elsewhere).
        device: what it ran on.
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
    peak_memory_bytes: int | None = None
    device: str = ""

    @property
    def kind(self) -> str:
        """The outcome without its reason: `rejected` for `rejected:causality`."""
        return self.outcome.partition(":")[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back exactly."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Evaluation:
        """The inverse of `to_dict` (and of its JSON text, where tuples became lists)."""
        known = {field.name for field in fields(Evaluation)}
        kept = {name: value for name, value in values.items() if name in known}
        for name in ("hurdle_losses", "hurdle_steps"):
            kept[name] = tuple(kept.get(name, ()))
        kept["curve"] = tuple((spent, steps, loss) for spent, steps, loss in kept.get("curve", ()))
        return Evaluation(**kept)
