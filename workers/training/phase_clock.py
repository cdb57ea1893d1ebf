"""The clock of a trial's phases: CPU time of the worker, or wall clock.

On a shared CPU, the CPU time of a process varies far less than wall clock. So a slow minute of the machine does not
decide which candidate is better. benchmarks/results/budget_units.txt has the measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PhaseClock", "clock_function"]


def clock_function(unit: str, backend: str = "cpu") -> Callable[[], float]:
    """Return the clock for a budget's unit, a function that returns seconds.

    Args:
        unit: unit of the budget. For `steps`, the clock is used only in reports.
        backend: JAX backend. The CPU time of a process does not include the time of its accelerator.
    """
    cpu_time = unit == "cpu_seconds" or (unit == "reference_seconds" and backend == "cpu")
    return time.process_time if cpu_time else time.perf_counter


class PhaseClock:
    """Adds up the seconds of each phase of a trial."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a phase."""
        start = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - start
