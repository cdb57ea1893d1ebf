"""The watchdog: a thread that kills local workers whose trial exceeds its limits.

It is a thread, because a trial can fill the memory in the seconds that the controller spends on mutations or a report.
It kills by signals of the operating system, because a worker that holds Python's interpreter lock in a loop responds to
nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

import psutil

from ...system.host import descendants_memory, kill_process_tree, resident_bytes
from ..protocol import Evaluation
from .trial_limits import TrialLimits

__all__ = ["Watch", "Watchdog"]

_PERIOD_SECONDS = 0.1

_TREE_SECONDS = 1.0
"""Time between two readings of the memory of the workers' child processes. Each reading lists all processes."""

_REPORT_SECONDS = 2.0
"""Time that a worker has to report that it trains, after its limit for the preparation."""

PREPARATION = ("starting", "compile", "probe")
"""Phases of a trial before its first training step."""


@dataclass(slots=True, eq=False)
class Watch:
    """One watched trial.

    Attributes:
        process: the worker's process; None on another machine, where the executor must check the limits.
        limits: limits of the trial.
        began: start of the trial (`time.monotonic`).
        violation: evaluation of the trial if it has exceeded a limit.
        trains: whether the trial has reported that it trains.
        overdue: time at which the preparation was first found to take too long (`time.monotonic`); None: not yet.
    """

    process: psutil.Process | None
    limits: TrialLimits
    began: float
    violation: Evaluation | None = None
    trains: bool = False
    overdue: float | None = None

    @property
    def wall_seconds(self) -> float:
        """Time since the trial began."""
        return time.monotonic() - self.began

    def report(self, phase: str) -> None:
        """Record the phase that the worker reports."""
        self.trains = self.trains or phase not in PREPARATION

    def check_preparation(self) -> Evaluation | None:
        """Return a violation if the trial has not reported that it trains, `_REPORT_SECONDS` after its limit.

        The phase of a trial is known only from its reports, which arrive late if the controller is busy. So a trial
        that seems late has time for one more report.
        """
        if self.violation is None and not self.trains and self.wall_seconds > self.limits.preparation_seconds:
            self.overdue = self.overdue or time.monotonic()
            if time.monotonic() - self.overdue > _REPORT_SECONDS:
                limit, seconds = self.limits.preparation_seconds, self.wall_seconds
                text = f"no training step after {seconds:.1f} s, over the limit of {limit:g} s for compilation"
                self.violation = Evaluation("timeout", f"{text}; it was killed", wall_seconds=seconds)
        return self.violation

    def check(self, memory_bytes: int = 0) -> Evaluation | None:
        """Compare the trial with its limits, and return its first violation, found now or earlier."""
        self.violation = self.violation or self.limits.violation(self.wall_seconds, memory_bytes)
        return self.violation


class Watchdog:
    """Watches any number of trials from one daemon thread."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)
        self._thread.start()

    def watch(self, process: psutil.Process | None, limits: TrialLimits) -> Watch:
        """Start to watch a trial that begins now in `process`; None: on another machine."""
        watch = Watch(process, limits, time.monotonic())
        with self._lock:
            self._watches.add(watch)
        return watch

    def release(self, watch: Watch) -> Evaluation | None:
        """Stop watching a trial, and return its violation if it was killed. The trial is not killed afterwards."""
        with self._lock:
            self._watches.discard(watch)
        return watch.violation

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _loop(self) -> None:
        held, read = Counter[int](), 0.0
        while not self._stop.wait(_PERIOD_SECONDS):
            with self._lock:
                watched = {watch.process.pid for watch in self._watches if watch.process}
            if watched and time.monotonic() - read > _TREE_SECONDS:
                held, read = descendants_memory(watched), time.monotonic()
            with self._lock:
                for watch in self._watches:
                    process = watch.process
                    if process is None or watch.violation is not None:
                        continue
                    if watch.check(resident_bytes(process) + held[process.pid]):
                        kill_process_tree(process)
