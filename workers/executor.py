"""What runs trials: the executor protocol, and what travels over it.

`make_executor` picks one: `inline` trains in the calling process; `ray` trains on actors that stay
warm from trial to trial, are killed when a trial passes its limits, and are replaced at once. Neither Ray nor
JAX is imported here, so that the command line answers before either would have loaded.

An executor is told *how to make a trainer*, not given one: `make_trainer` is pickled and called once in every
worker, where the trainer then keeps its data and compiled functions between trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from .evaluation import Evaluation, TrialRequest

__all__ = [
    "Executor",
    "MakeTrainer",
    "Platform",
    "Progress",
    "Trainer",
    "WorkerStatus",
    "describe_fault",
    "first_line",
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


def describe_fault(error: BaseException, wall_seconds: float) -> Evaluation:
    """The evaluation of a trial whose trainer raised: out of memory is the candidate's fault, the rest is not."""
    outcome = "out_of_memory" if isinstance(error, MemoryError) else "worker_lost"
    return Evaluation(outcome, f"the trainer raised {first_line(error)}", wall_seconds=wall_seconds)


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
