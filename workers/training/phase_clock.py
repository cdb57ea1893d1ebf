"""The clocks of a trial's phases: the worker's own CPU time, or the wall.

On a shared CPU a process's own CPU time is far steadier than the wall: a slow minute of the machine does not
decide a tournament. See benchmarks/results/clock.txt for the measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PhaseClock", "clock_function"]


def clock_function(unit: str, backend: str = "cpu") -> Callable[[], float]:
    """Seconds so far, by the clock a trial's unit asks for.

    Args:
        unit: of the budget; where it is `steps`, the clock only reports.
        backend: what JAX computes on; the CPU time of a process says nothing of its accelerator.
    """
    own = unit == "cpu_seconds" or (unit == "reference_seconds" and backend == "cpu")
    return time.process_time if own else time.perf_counter


class PhaseClock:
    """Adds up the seconds spent in each phase of a trial."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time of the block to a phase."""
        start = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - start
