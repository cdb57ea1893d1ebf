"""Base classes of the progress displays: a live panel for a terminal, plain lines for anything else, or nothing.

All displays take the states that a search or a study reports, and messages about slow preparations. No display writes
to stdout, which is for results.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TextIO, TypeVar

from ....system.standard_streams import print_message
from ....workers.protocol import WorkerStatus

if TYPE_CHECKING:  # rich is loaded when a panel is drawn
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = [
    "PHASES",
    "LinePrinter",
    "LivePanel",
    "NoDisplay",
    "WorkerTable",
    "choose_display",
    "facts_grid",
    "shows_panel",
]

State = TypeVar("State")

_EVENTS = 5
_WORKERS = 16
_BAR_COLUMNS = 18
_GAP = 2
_OTHER_LINES = 17
"""Lines of a panel on a narrow terminal, without the lines of the workers."""

PHASES = {
    "calibrate": "timing the baseline's step",
    "compile": "compiling",
    "probe": "probing",
    "train": "training",
    "evaluate": "evaluating",
    "recheck": "rechecking",
}
"""Phases of a training as words; other phases are shown with their own name."""


def shows_panel(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class NoDisplay:
    """Shows only messages that must not be missed; a context manager."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def observe(self, state: Any) -> None:
        """Ignore the current state."""

    def tell(self, message: str) -> None:
        """Ignore a message."""

    def warn(self, message: str) -> None:
        """Print a message that must not be missed."""
        print(message, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LinePrinter(ABC, Generic[State]):
    """Progress as plain lines; a context manager."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    @abstractmethod
    def observe(self, state: State) -> None:
        """Take the current state; called several times a second."""

    def tell(self, message: str) -> None:
        """Print a message; on a terminal, a long one continues on the next line between words."""
        print_message(message, self._stream)

    def warn(self, message: str) -> None:
        """Print a message that must not be missed."""
        self.tell(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LivePanel(ABC, Generic[State]):
    """Progress as a panel of a few lines, redrawn four times a second; a context manager that erases it at the end."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.live import Live

        self._state: Any = None
        self._observed_at = 0.0
        self._message = "starting"
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._live = Live(
            console=Console(file=stream, highlight=False, emoji=False),
            get_renderable=self.panel,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @abstractmethod
    def draw(self, state: State, seconds: float) -> list[RenderableType]:
        """Return the panel's lines about the work as a whole.

        Args:
            state: latest state.
            seconds: seconds since that state was observed.
        """

    @abstractmethod
    def draw_workers(self, state: State) -> RenderableType:
        """Return the lines about the workers."""

    @abstractmethod
    def format_event(self, state: State) -> str:
        """Return one line about `state.last`, the training that ended last (not None here)."""

    def observe(self, state: Any) -> None:
        """Take the current state; called several times a second."""
        if self._state is not None and state.last is not None and state.last is not self._state.last:
            self._events.append(self.format_event(state))
        self._state, self._observed_at, self._message = state, time.monotonic(), ""

    def tell(self, message: str) -> None:
        """Show a message until the next state arrives, in place of the workers."""
        self._message = message

    def warn(self, message: str) -> None:
        """Print a message above the panel, where it stays."""
        self._live.console.print(message, markup=False, soft_wrap=True)

    def panel(self) -> RenderableType:
        """Return the current content of the panel."""
        from rich.console import Group
        from rich.text import Text

        message = Text(f"{self._message} ...", style="dim")
        if self._state is None:
            return message
        lines = self.draw(self._state, time.monotonic() - self._observed_at)
        work = message if self._message else self.draw_workers(self._state)
        events = [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in self._events]
        return Group(*lines, work, *events)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def choose_display(
    stream: TextIO, panel: type[LivePanel[State]], lines: type[LinePrinter[State]], quiet: bool
) -> LivePanel[State] | LinePrinter[State] | NoDisplay:
    """Return the display for a stream: `panel` on a terminal, `lines` elsewhere; nothing if `quiet`."""
    if quiet:
        return NoDisplay(stream)
    return panel(stream) if shows_panel(stream) else lines(stream)


def facts_grid(facts: Sequence[tuple[str, RenderableType]]) -> RenderableType:
    """Return names and contents in two columns; long texts wrap between words."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=8)
    grid.add_column()
    for name, content in facts:
        grid.add_row(Text(name), content)
    return grid


@dataclass(frozen=True, slots=True)
class WorkerTable:
    """Table of the workers: phase, candidate, progress of its training, and latest loss or seconds so far.

    Bars fill the free width. Workers that do not fit the height are only counted.

    Attributes:
        workers: status of each worker.
        name: function from a candidate's id to its name.
    """

    workers: Sequence[WorkerStatus]
    name: Callable[[int], str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shown = self.workers[: min(_WORKERS, max(console.height - _OTHER_LINES, 2))]
        rows = [self._texts(status) for status in shown]
        others = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
        room = options.max_width - sum(others) - _GAP * len(others)
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for _ in range(6):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for status, (worker, phase, candidate, share, known) in zip(shown, rows, strict=True):
            busy = status.candidate_id is not None
            bar = ProgressBar(1.0, _share(status), width=max(min(room, _BAR_COLUMNS), 4)) if busy else ""
            table.add_row(Text(worker, "dim"), Text(phase), Text(candidate), bar, share, known)
        yield table
        if len(self.workers) > len(shown):
            yield Text(f"and {len(self.workers) - len(shown)} more", "dim")

    def _texts(self, status: WorkerStatus) -> tuple[str, str, str, str, str]:
        worker, phase = f"worker {status.worker}", PHASES.get(status.phase, status.phase)
        if status.candidate_id is None:
            return worker, phase, "", "", ""
        known = f"{status.wall_seconds:.0f} s" if status.loss_nats is None else f"{status.loss_nats:.3f} nats"
        return worker, phase, self.name(status.candidate_id), f"{_share(status):4.0%}", known


def _share(status: WorkerStatus) -> float:
    return min(status.spent / status.budget, 1.0) if status.budget else 0.0
