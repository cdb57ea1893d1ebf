"""Run a search from the console: show its progress, write its log, and print the result at its end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...primitives.errors import PrimerSearchError, WorkFailedError
from ...system.output_capture import log_traceback, redirect_output
from ...system.signals import Interrupted, InterruptFlag, interrupt_on_termination
from ...system.standard_streams import discard_output
from ..reports.progress.search_progress import search_display
from ..runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from ..results.leaderboard_rows import Leaderboard
    from .session import SearchResult

__all__ = ["OutputOptions", "request_stop", "search_with_display"]

STOP_SECONDS = 20.0
"""Seconds that `stop` waits for the controller to end."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Output of a search.

    Attributes:
        top: number of rows of the leaderboard printed at the end.
        as_json: whether to print JSON instead of the table.
        quiet: whether to show no progress.
    """

    top: int = 10
    as_json: bool = False
    quiet: bool = False


def search_with_display(run: RunDirectory, search: Callable[..., SearchResult], output: OutputOptions) -> None:
    """Search with a progress display, then print the leaderboard and write the report, also after an interruption.

    Args:
        run: directory of the run.
        search: function that searches; takes `observe`, `tell` and `warn`.
        output: form of the output.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the results so far are saved.
        WorkFailedError: an unexpected error ended the search; its traceback is in the run's log.
    """
    with interrupt_on_termination() as interruption:
        try:
            result = _search(run, search, output.quiet, interruption)
        except (KeyboardInterrupt, Interrupted) as error:
            interruption.handled = True
            message = f"{error}" or _interruption_message(run)
            if run.store.exists():
                _print_end(run, "interrupted", output)
            _remove_without_store(run)
            raise Interrupted(message) from None
    why = "stopped on request" if result.ending == "stopped" else "the budget is spent"
    _print_end(run, why, output, result.unfinished)


def _search(
    run: RunDirectory, search: Callable[..., SearchResult], quiet: bool, interruption: InterruptFlag
) -> SearchResult:
    """Search with a progress display and a log."""
    try:
        with redirect_output(run.log) as terminal, search_display(terminal, quiet) as display:
            observe, tell = interruption.check_before(display.observe), interruption.check_before(display.tell)
            interruption.farewell = lambda: _interruption_message(run)
            return search(observe=observe, tell=tell, warn=display.warn)
    except Interrupted:
        raise
    except PrimerSearchError:
        _remove_without_store(run)
        raise
    except Exception as error:
        if not run.store.exists() or not log_traceback(run.log, error) or os.environ.get("PRIMER_SEARCH_DEBUG"):
            _remove_without_store(run)
            raise
        message = " ".join(f"{type(error).__name__}: {error}".split())
        raise WorkFailedError(f"the search failed with {message} (its traceback is in {run.log})") from error


def request_stop(run: RunDirectory) -> str:
    """Ask the controller of a run to stop, wait up to `STOP_SECONDS`, and return a message about the result."""
    import time

    if run.controller() is None:
        return f"run {run.path} is not running"
    run.request_stop()
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        if run.controller() is None:
            return f"run {run.path} has stopped: resume it with `primer-search resume {shlex.quote(str(run.path))}`"
        time.sleep(0.1)
    return f"run {run.path} is asked to stop, but its controller has not ended after {STOP_SECONDS:g} s"


def _print_end(run: RunDirectory, why: str, output: OutputOptions, unfinished: str = "") -> None:
    """Write the report and print the result. The result is stored already, so a failed output is not an error."""
    from ..reports.pages.run_page import try_report
    from ..results.leaderboard import leaderboard
    from ..runs.store import Store

    with Store.open(run.path, read_only=True) as store:
        board = leaderboard(store)
        report = try_report(store)
    try:
        if output.as_json:
            print(json.dumps(board.to_dict(), allow_nan=False))
        else:
            _print_board(run, why, board, f"{report}", output.top, unfinished)
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        if not isinstance(error, BrokenPipeError):
            named = shlex.quote(str(run.path))
            say = f"cannot write the output: {error.strerror}; `primer-search leaderboard {named}` prints it again"
            print(f"primer-search: {say}", file=sys.stderr)


def _print_board(run: RunDirectory, why: str, board: Leaderboard, report: str, top: int, unfinished: str) -> None:
    from ..reports.console import console_for, print_command, print_text
    from ..reports.tables.leaderboard_table import next_commands, print_leaderboard

    console = console_for(sys.stdout)
    print_text(f"run {run.path}: {why}\n", console)
    print_leaderboard(board, console, top)
    if unfinished:
        print_text(f"\nUNFINISHED: {unfinished}", console, "yellow")
    print_text(f"\nreport  {report}\nnext", console)
    for command in next_commands(run.path, board):
        print_command(command, console)


def _interruption_message(run: RunDirectory) -> str:
    if not run.store.exists():
        return "interrupted before the search began: nothing is saved"
    return f"interrupted, and the results are saved: continue with `primer-search resume {shlex.quote(str(run.path))}`"


def _remove_without_store(run: RunDirectory) -> None:
    """Remove the directory of a run that has no store yet."""
    if run.store.exists():
        return
    with suppress(OSError):
        run.lock.unlink(missing_ok=True)
        run.log.unlink(missing_ok=True)
        run.path.rmdir()
