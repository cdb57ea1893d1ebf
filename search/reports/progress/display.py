"""Base classes of the progress displays: a live panel for a terminal, plain lines for anything else.

Both take the states that a search or a study reports, and messages about slow preparations. Neither writes to stdout,
which is for results.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TextIO, TypeVar

from ....workers.protocol import WorkerStatus

if TYPE_CHECKING:  # rich is loaded when a panel is drawn
    from rich.console import RenderableType

__all__ = ["LinePrinter", "LivePanel", "worker_table"]

State = TypeVar("State")

_EVENTS = 5
_WORKERS = 16
_BAR_COLUMNS = 18


class LinePrinter(ABC, Generic[State]):
    """Progress as plain lines; a context manager."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    @abstractmethod
    def observe(self, state: State) -> None:
        """Take the current state; called several times a second."""

    def tell(self, message: str) -> None:
        """Print a message."""
        print(message, file=self._stream, flush=True)

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
        """Return the panel's lines above the events.

        Args:
            state: latest state.
            seconds: seconds since that state was observed.
        """

    @abstractmethod
    def format_event(self, state: State) -> str:
        """Return one line about the training that ended last, which is not None."""

    def observe(self, state: Any) -> None:
        """Take the current state; called several times a second."""
        if self._state is not None and state.last is not None and state.last is not self._state.last:
            self._events.append(self.format_event(state))
        self._state, self._observed_at = state, time.monotonic()

    def tell(self, message: str) -> None:
        """Show a message until the first state arrives."""
        self._message = message

    def warn(self, message: str) -> None:
        """Print a message above the panel, where it stays."""
        self._live.console.print(message, markup=False, soft_wrap=True)

    def panel(self) -> RenderableType:
        """Return the current content of the panel."""
        from rich.console import Group
        from rich.text import Text

        if self._state is None:
            return Text(f"{self._message} ...", style="dim")
        lines = self.draw(self._state, time.monotonic() - self._observed_at)
        return Group(*lines, *(Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in self._events))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def worker_table(workers: Sequence[WorkerStatus], name: Callable[[int], str]) -> RenderableType:
    """Return a table of the workers: phase, candidate, progress of its training, and latest loss.

    Args:
        workers: status of each worker.
        name: function from a candidate's id to its name.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for status in workers[:_WORKERS]:
        cells: list[RenderableType] = [f"[dim]worker {status.worker}[/]", status.phase]
        if status.candidate_id is not None:
            share = min(status.spent / status.budget, 1.0) if status.budget else 0.0
            loss = "" if status.loss_nats is None else f"{status.loss_nats:.3f} nats"
            bar = ProgressBar(total=1.0, completed=share, width=_BAR_COLUMNS)
            cells += [name(status.candidate_id), bar, f"{share:4.0%}", loss]
        table.add_row(*cells)
    if len(workers) > _WORKERS:
        table.add_row(f"[dim]and {len(workers) - _WORKERS} more[/]")
    return table
