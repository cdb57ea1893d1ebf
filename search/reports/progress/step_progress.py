"""Progress of work in equal steps: a bar with the time left on a terminal, a line for each quarter elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from ....system.durations import format_duration
from ....system.signals import raise_if_interrupted
from .display import shows_panel

if TYPE_CHECKING:  # rich is loaded when a bar is drawn
    import rich.progress

__all__ = ["StepProgress"]

LINE_SHARE = 0.25
"""Share of the steps between two lines."""


class StepProgress:
    """Callback for finished steps; a context manager that erases the bar at the end.

    Args:
        stream: where to show it.
        what: the work, such as `analyzing`.
        quiet: whether to show nothing.
    """

    def __init__(self, stream: TextIO, what: str, quiet: bool = False):
        self._stream, self._what, self._quiet = stream, what, quiet
        self._bar = _progress_bar(stream, what) if shows_panel(stream) and not quiet else None
        self._first: tuple[float, int] | None = None
        self._next_share = LINE_SHARE

    def __call__(self, done: int, total: int) -> None:
        """Show the number of finished steps; the time left counts from the first step on, which compiles.

        Raises:
            KeyboardInterrupt: a signal has asked the command to stop.
        """
        raise_if_interrupted()
        left = self._time_left(done, total)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, left=left)
        elif not self._quiet and self._next_share * total <= done < total:
            self._next_share = (done / total // LINE_SHARE + 1) * LINE_SHARE
            print(f"{self._what}: {done} of {total}{left}", file=self._stream, flush=True)

    def _time_left(self, done: int, total: int) -> str:
        if done and self._first is None:
            self._first = time.monotonic(), done
        if self._first is None or done <= self._first[1]:
            return ""
        seconds = (time.monotonic() - self._first[0]) / (done - self._first[1]) * (total - done)
        return f", about {format_duration(seconds)} left"

    def __enter__(self) -> StepProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _progress_bar(stream: TextIO, what: str) -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress

    columns = ("{task.description}", BarColumn(), "{task.completed} of {task.total}{task.fields[left]}")
    bar = Progress(*columns, console=Console(file=stream), transient=True, redirect_stdout=False)
    bar.add_task(what, total=1, left="")
    return bar
