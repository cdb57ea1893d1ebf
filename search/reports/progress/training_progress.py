"""One training on the console: a line that is drawn anew on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from ....workers.protocol import Progress

__all__ = ["TrainingProgress"]

REDRAW_SECONDS = 0.25
LINE_SHARE = 0.25
"""Elsewhere than on a terminal, each such part of the budget is worth a line."""

_WORDS = {
    "calibrate": "timing the baseline's step",
    "compile": "compiling",
    "probe": "probing",
    "train": "training",
    "evaluate": "evaluating",
    "recheck": "rechecking",
}


class TrainingProgress:
    """Takes in where a training stands; a context manager that leaves the terminal's line behind clean."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._redraws = stream.isatty()
        self._drawn_at = 0.0
        self._next_share = LINE_SHARE
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        """Show it, if there is something new."""
        share = progress.spent / progress.budget if progress.budget else 0.0
        loss = "" if progress.loss_nats is None else f", loss {progress.loss_nats:.3f}"
        line = f"{_WORDS.get(progress.phase, progress.phase)}: {min(share, 1.0):.0%}{loss}"
        if self._redraws:
            self._redraw(line, progress.phase)
        elif progress.phase == "train" and share >= self._next_share:
            self._next_share = (share // LINE_SHARE + 1) * LINE_SHARE
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _redraw(self, line: str, phase: str) -> None:
        now = time.monotonic()
        if phase == "train" and now - self._drawn_at < REDRAW_SECONDS:
            return
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._drawn_at, self._width = now, len(line)
