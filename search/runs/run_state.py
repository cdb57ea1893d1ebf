"""Snapshot of a running search, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass

from ...workers.protocol import Evaluation, WorkerStatus

__all__ = ["RunState"]


@dataclass(frozen=True, slots=True)
class RunState:
    """Snapshot of a running search, for progress displays.

    Attributes:
        elapsed_seconds, budget_seconds: time spent and time allowed in this session.
        candidates: number of candidates so far, including the baseline.
        outcomes: number of trials by outcome.
        baseline_losses: losses of the baseline's finished trials, in nats per token.
        best: id and loss of the best fully trained candidate so far; None before the first.
        best_bits_per_byte: the same loss in bits per byte.
        workers: status of each worker.
        last: candidate and evaluation of the trial that ended last; None before the first.
    """

    elapsed_seconds: float
    budget_seconds: float
    candidates: int
    outcomes: dict[str, int]
    baseline_losses: tuple[float, ...]
    best: tuple[int, float] | None
    best_bits_per_byte: float | None
    workers: tuple[WorkerStatus, ...]
    last: tuple[int, Evaluation] | None
