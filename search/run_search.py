"""A search on the console: the display while it runs, where everything else goes, and what stands there at the end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..primitives.errors import PrimerSearchError, WorkFailedError
from ..system.output_capture import log_traceback, redirect_output
from ..system.signals import Interrupted, interrupt_on_termination
from .reports.progress.search_progress import make_display
from .runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from .session import SearchResult

__all__ = ["OutputOptions", "request_stop", "search_with_display"]

STOP_SECONDS = 20.0
"""How long `stop` waits for the controller to obey."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Output at the end of a search: number of leaderboard rows, or JSON."""

    top: int = 10
    as_json: bool = False


def search_with_display(run: RunDirectory, session: Callable[..., SearchResult], printing: OutputOptions) -> None:
    """Search with a display, then print what came of it and write the report.

    Args:
        run: where the search keeps its results.
        session: does the work; takes `observe` and `tell`.
        printing: how the end is printed.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; what was found is saved.
        WorkFailedError: something unforeseen broke the search off; its traceback is in the run's log.
    """
    try:
        with (
            interrupt_on_termination() as interruption,
            redirect_output(run.log) as terminal,
            make_display(terminal) as display,
        ):
            observe, tell = interruption.check_before(display.observe), interruption.check_before(display.tell)
            ending = session(observe=observe, tell=tell).ending
    except KeyboardInterrupt:
        raise Interrupted(_after_interruption(run)) from None
    except PrimerSearchError:
        _remove_unborn(run)
        raise
    except Exception as error:
        born = run.store.exists()
        if not born or not log_traceback(run.log, error) or os.environ.get("PRIMER_SEARCH_DEBUG"):
            _remove_unborn(run)
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise WorkFailedError(f"the search broke off with {said} (its traceback is in {run.log})") from error
    _print_end(run, ending, printing)


def request_stop(run: RunDirectory) -> str:
    """Ask a run's controller to stop, wait a little, and say what came of it."""
    import time

    if run.controller() is None:
        return f"run {run.path} is not running: there is nothing to stop"
    run.request_stop()
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        if run.controller() is None:
            return f"run {run.path} has stopped; `primer-search resume {shlex.quote(str(run.path))}` takes it up"
        time.sleep(0.1)
    return f"run {run.path} has been asked to stop, and will once its controller looks up"


def _print_end(run: RunDirectory, ending: str, printing: OutputOptions) -> None:
    from .reports.leaderboard_table import console_for, next_commands, print_leaderboard
    from .reports.run_page import try_report
    from .results.leaderboard import leaderboard
    from .runs.store import Store

    with Store.open(run.path, read_only=True) as store:
        board = leaderboard(store)
        report = try_report(store)
    if printing.as_json:
        print(json.dumps(board.to_dict(), allow_nan=False))
        return
    console = console_for(sys.stdout)
    why = "stopped as asked" if ending == "stopped" else "the budget is spent"
    console.print(f"run {run.path}: {why}\n", soft_wrap=True, markup=False)
    print_leaderboard(board, console, printing.top)
    console.print(f"\nreport  {report}\nnext", soft_wrap=True, markup=False)
    for command in next_commands(run.path, board):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def _after_interruption(run: RunDirectory) -> str:
    if not run.store.exists():
        _remove_unborn(run)
        return "interrupted before the search began: nothing was kept"
    return f"interrupted, and what was found is saved: go on with `primer-search resume {shlex.quote(str(run.path))}`"


def _remove_unborn(run: RunDirectory) -> None:
    """Leave nothing behind of a run that never got a store."""
    if run.store.exists():
        return
    with suppress(OSError):
        run.lock.unlink(missing_ok=True)
        run.log.unlink(missing_ok=True)
        run.path.rmdir()
