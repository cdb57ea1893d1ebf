"""Snapshot of a running search, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass

from ...workers.protocol import Evaluation, WorkerStatus
from ..evolution.best_candidate import BestCandidate

__all__ = ["RunState"]


@dataclass(frozen=True, slots=True)
class RunState:
    """Snapshot of a running search, for progress displays.

    Attributes:
        elapsed_seconds, budget_seconds: time spent and time allowed in this session.
        candidates: number of candidates so far, including the baseline.
        outcomes: number of trials by outcome.
        baseline_losses: losses of the baseline's finished trials, in nats per token.
        best: best candidate that trained to the end so far; None before the first.
        workers: status of each worker.
        last: candidate and evaluation of the trial that ended last; None before the first.
    """

    elapsed_seconds: float
    budget_seconds: float
    candidates: int
    outcomes: dict[str, int]
    baseline_losses: tuple[float, ...]
    best: BestCandidate | None
    workers: tuple[WorkerStatus, ...]
    last: tuple[int, Evaluation] | None
