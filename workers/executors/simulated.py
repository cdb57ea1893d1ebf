"""The simulated executor: trials on a virtual clock. A trainer computes their results immediately, without training.

The workers' time is virtual: a trial ends after the `wall_seconds` of its evaluation, and `wait` advances the clock to
the next end of a trial. The time of the calling process can be real. The clock then also advances while the controller
works, so workers are idle while it proposes a candidate, as in a real search. The time in which the trainer computes
results is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import NamedTuple

from ..protocol import Evaluation, Progress, Trainer, TrialRequest, WorkerStatus

__all__ = ["SimulatedExecutor", "VirtualClock"]


class VirtualClock:
    """A clock that callers advance, and that also advances with the time of this process.

    Args:
        own_seconds: clock of this process, such as `time.process_time`; None: work of this process takes no time.
        epoch: time at the start of the clock, in seconds since the Unix epoch; None: now.
    """

    def __init__(self, own_seconds: Callable[[], float] | None = None, epoch: float | None = None):
        self._own = own_seconds or (lambda: 0.0)
        self._offset = -self._own()
        self._epoch = time.time() if epoch is None else epoch

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return self._offset + self._own()

    def time(self) -> float:
        """Return the time in seconds since the Unix epoch."""
        return self._epoch + self.monotonic()

    def advance_to(self, seconds: float) -> None:
        """Advance the clock, unless it is already later."""
        if seconds > self.monotonic():
            self._offset = seconds - self._own()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time that this process spends in the `with` block."""
        before = self._own()
        try:
            yield
        finally:
            self._offset -= self._own() - before


class _Running(NamedTuple):
    """A trial in progress, ordered by its end; the trial id breaks ties."""

    end: float
    trial_id: int
    worker: int
    start: float
    request: TrialRequest
    evaluation: Evaluation


class SimulatedExecutor:
    """Simulated workers; see `Executor` for the methods.

    Args:
        trainer: returns the evaluation of a trial; its `wall_seconds` are virtual.
        slots: number of workers.
        clock: clock of the workers.

    Attributes:
        started, finished, cancelled: numbers of trials.
        busy_seconds: virtual seconds of finished and cancelled trials.
        finished_seconds, longest_seconds: virtual seconds of all finished trials, and of the longest.
        spent: budget that finished trials used, in the trial's unit.
        trainer_seconds: CPU time of the trainer.
    """

    def __init__(self, trainer: Trainer, slots: int, clock: VirtualClock):
        self._trainer = trainer
        self._slots = slots
        self._clock = clock
        self._running: list[_Running] = []
        self._idle = list(range(slots))
        self.started = self.finished = self.cancelled = 0
        self.busy_seconds = self.finished_seconds = self.longest_seconds = self.spent = self.trainer_seconds = 0.0

    @property
    def slots(self) -> int:
        """Number of workers."""
        return self._slots

    @property
    def free(self) -> int:
        """Number of workers without a trial."""
        return len(self._idle)

    def start(self) -> None:
        """Do nothing: simulated workers are ready at once."""

    def submit(self, request: TrialRequest) -> None:
        """Start a trial on a free worker, or raise RuntimeError if no worker is free."""
        if not self._idle:
            raise RuntimeError(f"trial {request.trial_id} was submitted while no worker is free")
        before = time.process_time()
        with self._clock.paused():
            evaluation = self._trainer.run(request, _ignore)
        self.trainer_seconds += time.process_time() - before
        start = self._clock.monotonic()
        end = start + evaluation.wall_seconds
        heappush(self._running, _Running(end, request.trial_id, self._idle.pop(), start, request, evaluation))
        self.started += 1

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Advance the clock to the next end of a trial, or by the timeout, and return the trials that have ended."""
        until = self._clock.monotonic() + max(0.0, timeout_seconds)
        target = min(self._running[0].end, until) if self._running else until
        self._clock.advance_to(target)
        now, ended = max(target, self._clock.monotonic()), []
        while self._running and self._running[0].end <= now:
            trial = heappop(self._running)
            self._idle.append(trial.worker)
            self._count(trial)
            ended.append((trial.request, trial.evaluation))
        return ended

    def status(self) -> list[WorkerStatus]:
        """Return an empty list: simulated workers have no phases, and there may be ten thousand of them."""
        return []

    def cancel(self) -> list[TrialRequest]:
        """End all running trials without a result, and return their requests."""
        now, running = self._clock.monotonic(), sorted(self._running)
        self._running = []
        self._idle = list(range(self._slots))
        self.busy_seconds += sum(min(now, each.end) - each.start for each in running)
        self.cancelled += len(running)
        return [each.request for each in running]

    def _count(self, trial: _Running) -> None:
        seconds = trial.end - trial.start
        self.finished += 1
        self.finished_seconds += seconds
        self.busy_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)
        self.spent += trial.evaluation.spent

    def close(self) -> None:
        """Cancel all trials."""
        self.cancel()

    def __enter__(self) -> SimulatedExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ignore(progress: Progress) -> None:
    """Ignore a progress report."""
