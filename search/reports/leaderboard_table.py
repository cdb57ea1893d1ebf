"""A run's leaderboard, and one candidate, as text for the console."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.confirmation import Confirmation
from ..results.leaderboard import best_row
from ..results.leaderboard_rows import Leaderboard, LeaderboardRow
from .phrases import (
    UNCONFIRMED,
    count,
    format_baseline,
    format_baseline_row,
    format_checks,
    format_confirmed_difference,
    format_cost,
    format_epochs,
    format_initial_programs,
    format_input_waits,
    format_lineage,
    format_perplexities,
    format_proposals,
    format_shares,
    headline,
    number,
)
from .progress.search_progress import format_outcomes
from .scale_table import ladder_notes, ladder_table

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console
    from rich.table import Table

__all__ = ["console_for", "next_commands", "print_leaderboard", "shown_rows"]

PLAIN_WIDTH = 140
"""Columns where the output is no terminal and COLUMNS does not say."""

WIDE = 108
"""Columns the whole leaderboard needs; narrower, it leaves out what `show` tells too, so that numbers stay whole."""


def console_for(stream: TextIO) -> Console:
    """A console on a stream, wide enough for tables where that is no terminal."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    width = None if stream.isatty() else int(columns) if columns.isdecimal() and int(columns) else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False)


def print_leaderboard(board: Leaderboard, console: Console, top: int = 10) -> None:
    """The best candidates against the baseline, and what the run spent to find them."""
    console.print(_table(shown_rows(board, top), board.initial_programs, console.width < WIDE))
    totals = board.totals
    facts = [
        ("baseline", format_baseline(board.baseline)),
        *([("words", perplexity)] if (perplexity := format_perplexities(board)) else []),
        *([("initial programs", format_initial_programs(board.initial_programs))] if board.initial_programs else []),
        ("outcomes", format_outcomes(totals.outcomes) or "none yet"),
        ("proposals", format_proposals(totals.proposals)),
        ("checks", format_checks(totals.checks)),
        ("cost", format_cost(totals)),
        *([("text", read)] if (read := format_epochs(board.rows)) else []),
        ("wall clock", format_shares(totals.shares)),
        *([("input", waited)] if (waited := format_input_waits(board.rows)) else []),
    ]
    width = max(len(name) for name, _ in facts)
    console.print()
    for name, words in facts:
        console.print(f"[dim]{name:<{width}}[/]  {words}", soft_wrap=True)
    for row in board.rows:
        if row.quarantine:
            console.print(f"[yellow]{candidate_name(row.id)}[/]: {row.quarantine}", soft_wrap=True)
    console.print()
    if board.confirmed:
        console.print("confirmed on the test text, with fresh random seeds", style="bold")
        console.print(_confirmed_table(board.confirmed))
        console.print()
    if board.ladder is not None:
        console.print(
            "at other sizes: rank, and difference to the baseline in bits/byte (95%, best of all)", style="bold"
        )
        console.print(ladder_table(board.ladder))
        console.print()
        for note in ladder_notes(board.ladder):
            console.print(note, soft_wrap=True)
        console.print()
    console.print(headline(board), style="bold", soft_wrap=True)
    if best_row(board.rows) is not None and not board.confirmed:
        console.print(f"[bold yellow]UNCONFIRMED[/]: {UNCONFIRMED}.", soft_wrap=True)


def shown_rows(board: Leaderboard, top: int) -> list[LeaderboardRow]:
    """The first rows, and those of the baseline and of initial programs wherever they stand."""
    rows = board.rows
    return [*rows[:top], *(row for row in rows[top:] if row.id == BASELINE_ID or row.id in board.initial_programs)]


def next_commands(run: Path, board: Leaderboard) -> list[str]:
    """What to type next about a run."""
    best, named = best_row(board.rows), shlex.quote(str(run))
    commands = [f"primer-search resume {named} --budget 10m"]
    if best is not None:
        confirm = [] if board.confirmed else [f"primer-search confirm {named} --top 5 --repeats 3"]
        commands = [
            *confirm,
            f"primer-search show {named} {best.id} --diff baseline",
            f"primer-search export {named} {best.id} -o block.py",
            *commands,
        ]
    return commands


def _table(rows: Sequence[LeaderboardRow], initial_programs: Mapping[int, str], narrow: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    left_out = ("step ms", "parameters") if narrow else ()
    titles = ("rank", "id", "loss nats", "bits/byte", "vs baseline", "noise", "step ms", "speed", "parameters")
    for title in titles:
        if title not in left_out:
            table.add_column(title, justify="right", no_wrap=True)
    table.add_column(Text("mutations, newest first", no_wrap=True, overflow="ellipsis"), min_width=12 if narrow else 16)
    for row in rows:
        baseline = row.id == BASELINE_ID
        words = format_baseline_row(initial_programs) if baseline else "; ".join(format_lineage(row.lineage))
        cells = (
            number(row.rank, "d"),
            candidate_name(row.id),
            *_losses(row),
            number(row.step_ms, ".1f"),
            "–" if row.speed is None else f"{row.speed:.2f}×",
            count(row.parameters),
        )
        table.add_row(
            *(cell for title, cell in zip(titles, cells, strict=True) if title not in left_out),
            Text(words, no_wrap=True, overflow="ellipsis"),  # the one column that gives way
            style="dim" if row.rank is None else "bold" if baseline or row.id in initial_programs else "",
        )
    return table


def _confirmed_table(rows: Sequence[Confirmation]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for title in ("rank", "id", "trainings", "test nats", "bits/byte", "vs baseline, bits/byte (95%, best of all)"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(
            number(row.rank, "d"),
            row.name,
            f"{row.trainings - row.failed} of {row.trainings}",
            number(row.test_loss_nats),
            number(row.test_bits_per_byte),
            "–" if row.candidate_id == BASELINE_ID else format_confirmed_difference(row).replace(" bits/byte", ""),
            row.verdict,
            style="bold" if row.candidate_id == BASELINE_ID or row.better else "",
        )
    return table


def _losses(row: LeaderboardRow) -> tuple[str, str, str, str]:
    """Loss, bits per byte, and both differences to the baseline; what did not train in full says why."""
    if row.loss_nats is None:
        if row.stopped_at_hurdle is not None:
            return number(row.hurdle_loss_nats), "–", f"hurdle {row.stopped_at_hurdle}", "–"
        return "–", "–", row.outcome.partition(":")[2] or row.outcome.replace("_", " "), "–"
    if row.id == BASELINE_ID:
        return number(row.loss_nats), number(row.bits_per_byte), "–", "–"
    noise = "inside" if row.inside_noise else number(row.noise_multiple, "+.1f")
    return number(row.loss_nats), number(row.bits_per_byte), number(row.delta_bits_per_byte, "+.4f"), noise
