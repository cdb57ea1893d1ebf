"""The watchdog: a thread that kills local workers whose trial exceeds its limits.

It is a thread because memory fills up in the seconds that the controller spends on mutations or a report. It uses only
signals of the operating system, because a worker in a loop that holds the interpreter lock responds to nothing else.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass

import psutil

from ...system.host import descendants_memory, kill_process_tree, resident_bytes
from ..protocol import Evaluation

__all__ = ["Limits", "Watch", "Watchdog"]

_PERIOD_SECONDS = 0.1

_TREE_SECONDS = 1.0
"""Time between two readings of the memory of processes that workers have started; it takes a list of all processes."""

_REPORT_SECONDS = 2.0
"""Time for a worker to report that it trains, once it seems late."""

PREPARATION = ("starting", "compile", "probe")
"""Phases of a trial before its first training step."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time and memory that one trial may use.

    Attributes:
        wall_seconds: wall clock of the whole trial.
        memory_bytes: resident memory; 0 means no limit.
        preparation_seconds: wall clock before the first training step: compilation and probes.
    """

    wall_seconds: float
    memory_bytes: int = 0
    preparation_seconds: float = math.inf

    def violation(self, wall_seconds: float, memory_bytes: int) -> Evaluation | None:
        """Return the evaluation of a trial that exceeded a limit, or None if it did not."""
        if self.memory_bytes and memory_bytes > self.memory_bytes:
            held, limit = memory_bytes / 2**30, self.memory_bytes / 2**30
            text = f"its worker held {held:.2f} GiB of memory, over the limit of {limit:.2f} GiB, and was killed"
            return Evaluation("out_of_memory", text, wall_seconds=wall_seconds, peak_memory_bytes=memory_bytes)
        if wall_seconds > self.wall_seconds:
            text = f"no result after {wall_seconds:.1f} s, over the limit of {self.wall_seconds:g} s; it was killed"
            return Evaluation("timeout", text, wall_seconds=wall_seconds)
        return None


@dataclass(slots=True, eq=False)
class Watch:
    """One watched trial.

    Attributes:
        process: the worker's process; None on another machine, where the executor must check the limits.
        limits: limits of the trial.
        began: start of the trial (`time.monotonic`).
        violation: evaluation of the trial if it has exceeded a limit.
        trains: whether the trial has reported that it trains.
        overdue: time at which the limit of the preparation was found to be exceeded (`time.monotonic`).
    """

    process: psutil.Process | None
    limits: Limits
    began: float
    violation: Evaluation | None = None
    trains: bool = False
    overdue: float | None = None

    @property
    def wall_seconds(self) -> float:
        """Time since the trial began."""
        return time.monotonic() - self.began

    def report(self, phase: str) -> None:
        """Take the phase that the worker reports."""
        self.trains = self.trains or phase not in PREPARATION

    def check_preparation(self) -> Evaluation | None:
        """Return a violation if the trial does not train in time, nor reports that it does within `_REPORT_SECONDS`.

        The phase is known from reports only. They are late where the controller was busy, so a trial that seems late
        has time for one more.
        """
        if self.violation is None and not self.trains and self.wall_seconds > self.limits.preparation_seconds:
            self.overdue = self.overdue or time.monotonic()
            if time.monotonic() - self.overdue > _REPORT_SECONDS:
                limit, seconds = self.limits.preparation_seconds, self.wall_seconds
                text = f"no training step after {seconds:.1f} s, over the limit of {limit:g} s for compilation"
                self.violation = Evaluation("timeout", f"{text}; it was killed", wall_seconds=seconds)
        return self.violation

    def check(self, memory_bytes: int = 0) -> Evaluation | None:
        """Compare the trial with its limits, and return the first violation, now or before."""
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

    def watch(self, process: psutil.Process | None, limits: Limits) -> Watch:
        """Watch a trial that starts now in this process."""
        watch = Watch(process, limits, time.monotonic())
        with self._lock:
            self._watches.add(watch)
        return watch

    def release(self, watch: Watch) -> Evaluation | None:
        """Stop watching a trial, and return its violation if it was killed. No kill follows afterwards."""
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
