"""Counter of the finished steps of long work, for its progress display."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["StepCounter"]


class StepCounter:
    """Counts finished steps, and calls `progress` with their number and the total after each of them."""

    def __init__(self, total: int, progress: Callable[[int, int], None]):
        self._done, self._total, self._progress = 0, total, progress
        progress(0, total)

    def add(self, steps: int) -> None:
        """Add steps to the total."""
        self._total += steps

    def next(self) -> None:
        """Count a step."""
        self._done += 1
        self._progress(self._done, self._total)
