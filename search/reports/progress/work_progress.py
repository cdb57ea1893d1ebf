"""Progress of work of known size, a base class: a bar on a terminal, a line for each quarter elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TextIO

from .display import shows_panel

if TYPE_CHECKING:  # rich is loaded when a bar is drawn
    import rich.progress

__all__ = ["WorkProgress"]

LINE_SHARE = 0.25
"""Share of the work between two lines."""


class WorkProgress:
    """Base class of a callback for progress; a context manager that erases the bar at the end.

    Args:
        stream: stream on which progress is shown.
        what: name of the work, such as `analyzing`.
        amount: format of the finished part at the end of the bar, in fields of a task of `rich.progress`.
        quiet: whether to show nothing.
    """

    def __init__(self, stream: TextIO, what: str, amount: str, quiet: bool = False):
        self._stream, self._quiet = stream, quiet
        self._bar = _progress_bar(stream, what, amount) if shows_panel(stream) and not quiet else None
        self._next_share = LINE_SHARE

    def _show(self, share: float, line: str, note: str, **task: Any) -> None:
        """Update the bar, or print a line if another quarter of the work is finished.

        Args:
            share: finished share of the work.
            line: text of the line; empty for none.
            note: text after the finished part at the end of the bar.
            task: new values of other fields of the bar's task.
        """
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], note=note, **task)
        elif line and not self._quiet and share >= self._next_share:
            self._next_share = (share // LINE_SHARE + 1) * LINE_SHARE
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _progress_bar(stream: TextIO, what: str, amount: str) -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress

    columns = ("{task.description}", BarColumn(), amount + "{task.fields[note]}")
    bar = Progress(*columns, console=Console(file=stream), transient=True, redirect_stdout=False)
    bar.add_task(what, total=1, note="")
    return bar
