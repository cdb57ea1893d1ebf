"""The inline executor: trials in this process, one after the other, for debuggers and machines without Ray.

It cannot kill a trial, so wall clock and memory are not limited, and Ctrl-C interrupts the training itself. A request
to stop, or the end of the search's budget, ends a trial at its next progress report. Compilation sends no reports.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...system.allocator import keep_freed_memory
from ...system.signals import raise_if_interrupted
from ..protocol import Evaluation, MakeTrainer, Progress, Trainer, TrialRequest, WorkerStatus, fault_evaluation

__all__ = ["InlineExecutor"]

_log = logging.getLogger(__name__)


class _StopTrial(BaseException):
    """Ends a trial on request. It is not an Exception, which a trainer might handle."""


class InlineExecutor:
    """An executor with one slot, whose `wait` runs the submitted trial. See `Executor` for the methods.

    Args:
        make_trainer: function that makes the trainer, called once.

    Attributes:
        stop_requested: function called at every progress report; if it returns true, `wait` returns and leaves the
            trial to `cancel`.
        watch: function called at the start of a trial and at every progress report, for displays.
    """

    def __init__(self, make_trainer: MakeTrainer):
        self._make_trainer = make_trainer
        self.stop_requested: Callable[[], bool] = lambda: False
        self._trainer: Trainer | None = None
        self._request: TrialRequest | None = None
        self._progress = Progress("idle")
        self._since = time.monotonic()
        self.watch: Callable[[], None] = lambda: None

    @property
    def slots(self) -> int:
        """Always 1: this process."""
        return 1

    @property
    def free(self) -> int:
        """1 if a trial can be submitted, else 0."""
        return int(self._trainer is not None and self._request is None)

    def start(self) -> None:
        """Make the trainer."""
        if self._trainer is None:
            keep_freed_memory()
            self._trainer = self._make_trainer()

    def submit(self, request: TrialRequest) -> None:
        """Keep the trial for `wait`, or raise RuntimeError if another trial is kept or `start` was not called."""
        if not self.free:
            raise RuntimeError(f"trial {request.trial_id} was submitted while no worker is free")
        self._enter(request, Progress("starting"))

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Run the submitted trial to its end. The timeout applies only if no trial was submitted."""
        if self._request is None or self._trainer is None:
            time.sleep(max(0.0, timeout_seconds))
            return []
        request = self._request
        self.watch()
        try:
            evaluation = self._trainer.run(request, self._record)
        except _StopTrial:
            return []
        except Exception as error:  # noqa: BLE001 - the traceback is logged, and the search continues
            _log.exception("trial %d of candidate %d failed", request.trial_id, request.candidate_id)
            evaluation = fault_evaluation(error, time.monotonic() - self._since)
        raise_if_interrupted()  # XLA may have turned the interruption into an error of the candidate
        self._enter(None, Progress("idle"))
        return [(request, evaluation)]

    def status(self) -> list[WorkerStatus]:
        """Return the status of the one worker."""
        trial, candidate = (self._request.trial_id, self._request.candidate_id) if self._request else (None, None)
        now, seen = time.monotonic(), self._progress
        seconds = now - self._since
        return [WorkerStatus(0, trial, candidate, seen.phase, seen.spent, seen.budget, seconds, seen.loss_nats)]

    def cancel(self) -> list[TrialRequest]:
        """Drop the submitted trial, even if a KeyboardInterrupt or a stop has ended it, and return its request."""
        dropped = [] if self._request is None else [self._request]
        self._enter(None, Progress("idle"))
        return dropped

    def close(self) -> None:
        """Drop the trial and the trainer."""
        self.cancel()
        self._trainer = None

    def __enter__(self) -> InlineExecutor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, progress: Progress) -> None:
        self._progress = progress
        self.watch()
        if self.stop_requested():
            raise _StopTrial

    def _enter(self, request: TrialRequest | None, progress: Progress) -> None:
        self._request, self._progress, self._since = request, progress, time.monotonic()
