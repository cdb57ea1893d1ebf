"""The watchdog: a thread that kills local workers whose trial exceeds its limits.

It is a thread because memory fills up in the seconds that the controller spends on mutations or a report. It uses only
signals of the operating system, because a worker in a loop that holds the interpreter lock responds to nothing else.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psutil

from ...system.host import kill_process_tree, resident_bytes
from ..protocol import Evaluation

__all__ = ["Limits", "Watch", "Watchdog"]

_PERIOD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall clock and memory that one trial may use; 0 bytes means no memory limit."""

    wall_seconds: float
    memory_bytes: int = 0

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
    """

    process: psutil.Process | None
    limits: Limits
    began: float
    violation: Evaluation | None = None

    @property
    def wall_seconds(self) -> float:
        """Time since the trial began."""
        return time.monotonic() - self.began

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
        while not self._stop.wait(_PERIOD_SECONDS):
            with self._lock:
                for watch in self._watches:
                    if watch.process and watch.violation is None and watch.check(resident_bytes(watch.process)):
                        kill_process_tree(watch.process)
