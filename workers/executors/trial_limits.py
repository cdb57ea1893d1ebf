"""Time and memory that a trial may use. The watchdog and the executors kill the worker of a trial that uses more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..protocol import Evaluation

__all__ = ["TrialLimits"]


@dataclass(frozen=True, slots=True)
class TrialLimits:
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
