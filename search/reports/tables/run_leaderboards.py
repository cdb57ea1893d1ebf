"""Leaderboards of several runs as one table: every row is compared with the baseline of its own run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...results.leaderboard_rows import Leaderboard
from ...results.selection.row_fields import RunRow
from ...results.selection.selected_rows import differing_settings, run_names
from ..console import print_facts, print_text
from ..phrases import UNCONFIRMED, format_baseline, headline
from .leaderboard_formats import incomparable
from .leaderboard_table import print_rows

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_leaderboards"]


def print_leaderboards(boards: Sequence[Leaderboard], rows: Sequence[RunRow], console: Console) -> None:
    """Print rows of several runs, and for each run its baseline and its result.

    Args:
        boards: leaderboards of the runs.
        rows: rows to print.
        console: console to print on.
    """
    print_rows(rows, {}, console, runs=True)
    console.print()
    names = run_names(boards)
    print_text("baselines", console, "bold")
    print_facts([(name, format_baseline(board.baseline)) for name, board in zip(names, boards, strict=True)], console)
    print_text("results", console, "bold")
    print_facts([(name, headline(board)) for name, board in zip(names, boards, strict=True)], console)
    console.print()
    if differing := differing_settings(boards):
        print_text(incomparable(differing), console, "yellow")
    if unconfirmed := [name for name, board in zip(names, boards, strict=True) if not board.confirmed]:
        print_text(f"UNCONFIRMED ({', '.join(unconfirmed)}): {UNCONFIRMED}.", console, "yellow")
