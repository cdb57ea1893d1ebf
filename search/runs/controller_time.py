"""Time that the controller's own process spends on each phase of its loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CONTROLLER_PHASES", "ControllerTime"]

CONTROLLER_PHASES = {
    "propose": "choose a parent, and mutate and check its child",
    "store": "write candidates, trials and results",
    "dispatch": "make the request of a trial",
    "learn": "update the population or the models by a result",
}
"""Phases of the loop. Handing requests to the executor and waiting for results are the executor's time."""


class ControllerTime:
    """Seconds of each phase.

    Attributes:
        cpu_seconds: CPU time of this process.
        wall_seconds: wall clock, waits for the disk included.
    """

    def __init__(self) -> None:
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self.wall_seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a phase."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.cpu_seconds[name] += time.process_time() - cpu
            self.wall_seconds[name] += time.perf_counter() - wall
