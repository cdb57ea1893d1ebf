"""Snapshot of a running search for progress displays, with a short history of its results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ...workers.protocol import Evaluation, WorkerStatus
from ..evolution.best_candidate import BestCandidate
from ..evolution.candidate import BASELINE_ID

__all__ = ["HurdleCounts", "Improvement", "ProgressSnapshot", "SearchHistory"]


class Improvement(NamedTuple):
    """A full training of a candidate with a lower loss than all before it.

    Attributes:
        trial: number of trials that had ended, this one included.
        loss_nats: its loss, in nats per token.
    """

    trial: int
    loss_nats: float


class HurdleCounts(NamedTuple):
    """Number of candidates' trials that reached a hurdle, and number of those that passed it."""

    reached: int
    passed: int


@dataclass(frozen=True, slots=True)
class ProgressSnapshot:
    """Snapshot of a running search, for progress displays.

    Attributes:
        elapsed_seconds, budget_seconds: time spent and time allowed in this session.
        candidates: number of candidates so far, including the baseline.
        outcomes: number of trials by outcome.
        baseline_losses: losses of the baseline's finished trials, in nats per token.
        best: best candidate that trained to the end so far; None before the first.
        workers: status of each worker.
        last: candidate and evaluation of the trial that ended last; None before the first.
        trials: number of trials that have ended.
        improvements: full trainings of candidates with a lower loss than all before them.
        hurdles: numbers of trials at each hurdle.
    """

    elapsed_seconds: float
    budget_seconds: float
    candidates: int
    outcomes: dict[str, int]
    baseline_losses: tuple[float, ...]
    best: BestCandidate | None
    workers: tuple[WorkerStatus, ...]
    last: tuple[int, Evaluation] | None
    trials: int = 0
    improvements: tuple[Improvement, ...] = ()
    hurdles: tuple[HurdleCounts, ...] = ()


class SearchHistory:
    """Improvements and hurdles of a search so far; the baseline's trials count only in `trials`."""

    def __init__(self) -> None:
        self.trials = 0
        self.improvements: list[Improvement] = []
        self._reached: list[int] = []
        self._passed: list[int] = []

    def record(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Add the result of a trial."""
        self.trials += 1
        if candidate_id == BASELINE_ID:
            return
        loss = evaluation.loss_nats
        lowest = self.improvements[-1].loss_nats if self.improvements else math.inf
        if evaluation.kind == "ok" and loss is not None and loss < lowest:
            self.improvements.append(Improvement(self.trials, loss))
        reached = len(evaluation.hurdle_losses)
        passed = reached - (evaluation.kind == "stopped_at_hurdle")
        for counts, number in ((self._reached, reached), (self._passed, passed)):
            counts.extend([0] * (reached - len(counts)))
            for hurdle in range(number):
                counts[hurdle] += 1

    def hurdles(self) -> tuple[HurdleCounts, ...]:
        """Return the numbers of trials at each hurdle that a trial has reached."""
        return tuple(map(HurdleCounts, self._reached, self._passed))
