"""Kills local workers that pass their limits, whatever the rest of the controller is doing.

A thread of its own, because memory fills in the seconds a controller spends on mutating or writing a report. It
uses operating-system signals only: a worker that holds the interpreter lock in a loop answers nothing else.
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
    """What one trial may use; 0 bytes means any amount of memory."""

    wall_seconds: float
    memory_bytes: int = 0

    def verdict(self, wall_seconds: float, memory_bytes: int) -> Evaluation | None:
        """The evaluation of a trial that used this much, or None while it keeps within its limits."""
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
    """One trial under guard; `process` is None for a worker on another machine, which only its owner can judge."""

    process: psutil.Process | None
    limits: Limits
    began: float
    verdict: Evaluation | None = None

    @property
    def wall_seconds(self) -> float:
        """Since the trial began."""
        return time.monotonic() - self.began

    def judge(self, memory_bytes: int) -> bool:
        """Whether the trial has passed a limit, now or before."""
        self.verdict = self.verdict or self.limits.verdict(self.wall_seconds, memory_bytes)
        return self.verdict is not None


class Watchdog:
    """Guards any number of trials from one daemon thread."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)
        self._thread.start()

    def watch(self, process: psutil.Process | None, limits: Limits) -> Watch:
        """Guard the trial that starts now in this process."""
        watch = Watch(process, limits, time.monotonic())
        with self._lock:
            self._watches.add(watch)
        return watch

    def release(self, watch: Watch) -> Evaluation | None:
        """Stop guarding; the verdict, if the trial was killed. No kill follows once this returned."""
        with self._lock:
            self._watches.discard(watch)
        return watch.verdict

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _loop(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            with self._lock:
                for watch in self._watches:
                    if watch.process and watch.verdict is None and watch.judge(resident_bytes(watch.process)):
                        kill_process_tree(watch.process)
