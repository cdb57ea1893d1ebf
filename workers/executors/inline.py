"""Trials in this process, one after the other: exact repetition, debuggers, machines without Ray.

Nothing here can kill a trial: wall clock and memory are not limited, and Ctrl-C reaches the training itself. Whoever is
asked to stop can have a trial given up where it next says how far it is; a compilation says nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from ..protocol import Evaluation, MakeTrainer, Progress, Trainer, TrialRequest, WorkerStatus, fault_evaluation

__all__ = ["InlineExecutor"]

_log = logging.getLogger(__name__)


class _GivenUp(BaseException):
    """Out of a trial that nobody waits for any more; no fault, which a trainer might take for its own."""


class InlineExecutor:
    """One slot; `wait` trains what was submitted. See `Executor` for the methods.

    Args:
        make_trainer: called once.
        stop_requested: asked whenever a trial reports; once it says yes, `wait` leaves the trial to `cancel`.
    """

    def __init__(self, make_trainer: MakeTrainer, stop_requested: Callable[[], bool] = lambda: False):
        self._make_trainer = make_trainer
        self._stop_requested = stop_requested
        self._trainer: Trainer | None = None
        self._request: TrialRequest | None = None
        self._progress = Progress("idle")
        self._since = time.monotonic()

    @property
    def slots(self) -> int:
        """One: this process."""
        return 1

    @property
    def free(self) -> int:
        """1 unless a trial was submitted."""
        return int(self._trainer is not None and self._request is None)

    def start(self) -> None:
        """Make the trainer."""
        if self._trainer is None:
            self._trainer = self._make_trainer()

    def submit(self, request: TrialRequest) -> None:
        """Keep the trial for `wait`; a RuntimeError if there is one already."""
        if not self.free:
            raise RuntimeError(f"trial {request.trial_id} was submitted while no worker is free")
        self._request = request
        self._enter(Progress("starting"))
        self._since = time.monotonic()

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Train what was submitted, however long it takes; the timeout passes only when there is nothing to do."""
        if self._request is None or self._trainer is None:
            time.sleep(max(0.0, timeout_seconds))
            return []
        request = self._request
        try:
            evaluation = self._trainer.run(request, self._hear)
        except _GivenUp:
            return []
        except Exception as error:  # noqa: BLE001 - the traceback is logged, and the search goes on
            _log.exception("trial %d of candidate %d failed", request.trial_id, request.candidate_id)
            evaluation = fault_evaluation(error, time.monotonic() - self._since)
        self._settle()
        return [(request, evaluation)]

    def status(self) -> list[WorkerStatus]:
        """The one worker; from inside a trial, how far that is."""
        trial, candidate = (self._request.trial_id, self._request.candidate_id) if self._request else (None, None)
        now, seen = time.monotonic(), self._progress
        seconds = now - self._since
        return [WorkerStatus(0, trial, candidate, seen.phase, seen.spent, seen.budget, seconds, seen.loss_nats)]

    def cancel(self) -> list[TrialRequest]:
        """Drop what was submitted; after a KeyboardInterrupt out of `wait`, or a stop, the trial it broke off."""
        dropped = [] if self._request is None else [self._request]
        self._settle()
        return dropped

    def close(self) -> None:
        """Let the trainer go."""
        self._settle()
        self._trainer = None

    def __enter__(self) -> InlineExecutor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hear(self, progress: Progress) -> None:
        self._enter(progress)
        if self._stop_requested():
            raise _GivenUp

    def _enter(self, progress: Progress) -> None:
        self._progress = progress

    def _settle(self) -> None:
        self._request, self._progress, self._since = None, Progress("idle"), time.monotonic()
