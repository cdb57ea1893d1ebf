"""Progress of work in equal steps: a bar with the time left on a terminal, a line for each quarter elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from ....system.durations import format_duration
from ....system.signals import raise_if_interrupted
from .work_progress import WorkProgress

__all__ = ["StepProgress"]


class StepProgress(WorkProgress):
    """Callback for finished steps; a context manager that erases the bar at the end.

    Args:
        stream: stream on which progress is shown.
        what: name of the work, such as `analyzing`.
        quiet: whether to show nothing.
    """

    def __init__(self, stream: TextIO, what: str, quiet: bool = False):
        super().__init__(stream, what, "{task.completed} of {task.total}", quiet)
        self._what = what
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show the number of finished steps. The time left is estimated without the first step, which compiles.

        Raises:
            KeyboardInterrupt: a signal has asked the command to stop.
        """
        raise_if_interrupted()
        left = self._time_left(done, total)
        line = f"{self._what}: {done} of {total}{left}" if done < total else ""
        self._show(done / max(total, 1), line, left, completed=done, total=total)

    def _time_left(self, done: int, total: int) -> str:
        if done and self._first is None:
            self._first = time.monotonic(), done
        if self._first is None or done <= self._first[1]:
            return ""
        seconds = (time.monotonic() - self._first[0]) / (done - self._first[1]) * (total - done)
        return f", about {format_duration(seconds)} left"
