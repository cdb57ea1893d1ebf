"""Progress of one training: a bar on a terminal, a line for each quarter of the budget elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from ....system.durations import format_duration
from ....workers.protocol import Progress
from .display import PHASES, shows_panel

if TYPE_CHECKING:  # rich is loaded when a bar is drawn
    import rich.progress

__all__ = ["TrainingProgress"]

LINE_SHARE = 0.25
"""Share of the budget between two lines."""


class TrainingProgress:
    """Callback for the progress of a training; a context manager that erases the bar at the end."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._next_share = LINE_SHARE
        self._first: tuple[float, float] | None = None
        self._bar = _progress_bar(stream) if shows_panel(stream) else None

    def __call__(self, progress: Progress) -> None:
        """Show the progress if it is new."""
        phase = PHASES.get(progress.phase, progress.phase)
        share = min(progress.spent / progress.budget, 1.0) if progress.budget else 0.0
        loss = "" if progress.loss_nats is None else f", loss {progress.loss_nats:.3f}"
        if progress.validation_nats is not None:
            loss += f", held out {progress.validation_nats:.3f}"
        loss += self._left(progress.phase, share)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=phase, completed=share, loss=loss)
        elif progress.phase == "train" and share >= self._next_share:
            self._next_share = (share // LINE_SHARE + 1) * LINE_SHARE
            print(f"{phase}: {share:.0%}{loss}", file=self._stream, flush=True)

    def _left(self, phase: str, share: float) -> str:
        """Return the time left, from the speed since the first progress; empty while it is unknown."""
        now = time.monotonic()
        if self._first is None or phase != "train" or share <= self._first[1]:
            self._first = (now, share) if phase == "train" and self._first is None else self._first
            return ""
        start, begun = self._first
        return f", {format_duration((now - start) * (1.0 - share) / (share - begun))} left"

    def __enter__(self) -> TrainingProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _progress_bar(stream: TextIO) -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress

    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f}%{task.fields[loss]}")
    bar = Progress(*columns, console=Console(file=stream), transient=True, redirect_stdout=False)
    bar.add_task("starting", total=1.0, loss="")
    return bar
