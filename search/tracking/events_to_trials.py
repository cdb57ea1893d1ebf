"""Finished trials, read from a run's events in pages while the run grows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...workers.protocol import Evaluation
from ..evolution.best_candidate import BestSoFar
from ..evolution.candidate import BASELINE_ID
from ..results.statistics import known_mean
from .tracked_records import TrackedProgress, TrackedTrial

if TYPE_CHECKING:  # loads SQLite
    from ..runs.records import Event, FinishedTrial
    from ..runs.store import Store

__all__ = ["TrialReader"]

PAGE = 1000
"""Number of events that are read at once."""


class TrialReader:
    """Reads the finished trials of a run in order of arrival. Each call of `new_trials` continues after the last call.

    Args:
        store: store of the run, open for reading.
        after: number of the last event whose trial is already logged. Events up to it only restore the state.

    Attributes:
        sequence: number of the last event that was read.
    """

    def __init__(self, store: Store, after: int = 0):
        self.sequence = 0
        self._store = store
        self._after = after
        self._started: dict[int | None, tuple[float, int]] = {}
        self._losses: defaultdict[int, list[float]] = defaultdict(list)
        self._best = BestSoFar(lambda number: known_mean(self._losses[number]), others_change=False)
        self._trials = 0
        self._candidates = 0

    def new_trials(self) -> Iterator[tuple[TrackedTrial, TrackedProgress]]:
        """Yield each trial that has finished since the last call, with the state of the search after it."""
        while events := self._store.events(self.sequence, limit=PAGE):
            known = max(self.sequence, self._after)
            last = events[-1].sequence
            results = {}
            if last > known:
                results = {finished.sequence: finished for finished in self._store.evaluations(known, last)}
            for event in events:
                self.sequence = event.sequence
                yield from self._take(event, results)

    def _take(self, event: Event, results: dict[int, FinishedTrial]) -> Iterator[tuple[TrackedTrial, TrackedProgress]]:
        if event.kind == "proposed":
            self._candidates += 1
        elif event.kind == "started":
            self._started[event.trial_id] = event.wall_time, event.payload["seed"]
        elif event.kind in ("cancelled", "worker_lost"):
            self._started.pop(event.trial_id, None)
        elif event.kind == "evaluated" and event.candidate_id is not None:
            started = self._started.pop(event.trial_id, (event.wall_time, 0))
            self._trials += 1
            self._record(event.candidate_id, event.payload["outcome"], event.payload["loss_nats"])
            if event.sequence in results:
                yield self._trial(results[event.sequence], *started), self._progress(event.wall_time)

    def _record(self, candidate_id: int, outcome: str, loss_nats: float | None) -> None:
        if outcome == "ok" and loss_nats is not None:
            self._losses[candidate_id].append(loss_nats)
        self._best.record(candidate_id, Evaluation(outcome, loss_nats=loss_nats))

    def _trial(self, finished: FinishedTrial, started_at: float, seed: int) -> TrackedTrial:
        candidate = self._store.candidate(finished.candidate_id)
        return TrackedTrial(
            finished.trial_id,
            candidate.id,
            candidate.parent,
            candidate.mutations,
            seed,
            started_at,
            finished.wall_time,
            finished.evaluation,
        )

    def _progress(self, at: float) -> TrackedProgress:
        best, baseline = self._best.best(), known_mean(self._losses[BASELINE_ID])
        found = (None, None) if best is None else (best.id, best.loss_nats)
        return TrackedProgress(self._trials, at, self._candidates, baseline, *found)
