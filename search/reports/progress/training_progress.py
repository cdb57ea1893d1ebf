"""Progress of one training: a bar on a terminal, a line for each quarter of the budget elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from ....system.durations import format_duration
from ....workers.protocol import Progress
from .display import PHASES
from .work_progress import WorkProgress

__all__ = ["TrainingProgress"]


class TrainingProgress(WorkProgress):
    """Callback for the progress of a training; a context manager that erases the bar at the end."""

    def __init__(self, stream: TextIO):
        super().__init__(stream, "starting", "{task.percentage:.0f}%")
        self._first: tuple[float, float] | None = None

    def __call__(self, progress: Progress) -> None:
        """Show the progress if it is new."""
        phase = PHASES.get(progress.phase, progress.phase)
        share = min(progress.spent / progress.budget, 1.0) if progress.budget else 0.0
        loss = "" if progress.loss_nats is None else f", loss {progress.loss_nats:.3f}"
        if progress.validation_nats is not None:
            loss += f", held out {progress.validation_nats:.3f}"
        loss += self._left(progress.phase, share)
        line = f"{phase}: {share:.0%}{loss}" if progress.phase == "train" else ""
        self._show(share, line, loss, description=phase, completed=share)

    def _left(self, phase: str, share: float) -> str:
        """Return the time left, from the speed since the first progress; empty while it is unknown."""
        now = time.monotonic()
        if self._first is None or phase != "train" or share <= self._first[1]:
            self._first = (now, share) if phase == "train" and self._first is None else self._first
            return ""
        start, begun = self._first
        return f", {format_duration((now - start) * (1.0 - share) / (share - begun))} left"
