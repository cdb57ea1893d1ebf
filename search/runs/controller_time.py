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
    "learn": "update the population or the models with a result",
}
"""Phases of the loop. They exclude the executor: handing requests to it, and waiting for its results."""

DISK_SHARE = 0.1
"""Share of the elapsed time above which waits for the disk are reported."""

DISK_SECONDS = 5.0
"""Shortest total wait for the disk that is reported."""


class ControllerTime:
    """Seconds of each phase.

    Attributes:
        cpu_seconds: CPU time of this process.
        wall_seconds: wall clock, waits for the disk included.
    """

    def __init__(self) -> None:
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self.wall_seconds: defaultdict[str, float] = defaultdict(float)
        self._disk_reported = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a phase."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.cpu_seconds[name] += time.process_time() - cpu
            self.wall_seconds[name] += time.perf_counter() - wall

    def slow_disk(self, elapsed_seconds: float) -> str:
        """Return a warning, once, if waits for the disk took much of the elapsed time; otherwise an empty text."""
        waited = self.wall_seconds["store"] - self.cpu_seconds["store"]
        if self._disk_reported or waited < max(DISK_SECONDS, DISK_SHARE * elapsed_seconds):
            return ""
        self._disk_reported = True
        return (
            f"writing results waited {waited:.0f} of the first {elapsed_seconds:.0f} s for the disk, and no new trial "
            "began meanwhile: the disk is slow, or other programs use the machine; a --run-dir on a faster disk may "
            "leave more time to train"
        )
