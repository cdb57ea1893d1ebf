"""Leaderboard of a run as tables for the console, and the cells that its page shows too."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.confirmation import Confirmation
from ..results.leaderboard import best_row
from ..results.leaderboard_rows import Leaderboard, LeaderboardRow
from .candidate_table import format_mutations
from .console import number_table, print_facts
from .formatting import format_count, format_estimate, format_number
from .phrases import (
    UNCONFIRMED,
    format_baseline_row,
    format_confirmed_difference,
    headline,
    run_facts,
)
from .scale_table import ladder_notes, ladder_table

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console
    from rich.table import Table

__all__ = ["confirmation_cells", "leaderboard_cells", "next_commands", "print_leaderboard", "shown_rows"]

_TITLES = (
    "rank",
    "id",
    "loss nats",
    "bits/byte",
    "vs baseline",
    "equal time",
    "noise",
    "step ms",
    "speed",
    "parameters",
)
"""Titles of the columns; `equal time` is shown for runs whose trainings are counted in steps."""

EQUAL_STEPS = "vs baseline, bits/byte (95%, best of all): at equal steps"
"""Title of a column of priced confirmations; it may wrap. The next column holds the difference at equal time."""

WIDE = 108
"""Columns that the whole table needs. A narrower one leaves out values that `show` prints, so that numbers fit."""


def print_leaderboard(board: Leaderboard, console: Console, top: int = 10) -> None:
    """Print the best candidates, facts about the run, retrained candidates if there are any, and the headline."""
    console.print(_table(shown_rows(board, top), board.initial_programs, console.width < WIDE))
    console.print()
    print_facts(run_facts(board), console)
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
    """Return the first rows, and those of the baseline and the initial programs from any rank."""
    rows = board.rows
    return [*rows[:top], *(row for row in rows[top:] if row.id == BASELINE_ID or row.id in board.initial_programs)]


def next_commands(run: Path, board: Leaderboard) -> list[str]:
    """Return commands that continue with the results of a run."""
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


def leaderboard_cells(row: LeaderboardRow) -> dict[str, str]:
    """Return a row of the leaderboard as text, by column, without its mutations."""
    loss, bits, delta, noise = row.loss_nats, row.bits_per_byte, "–", "–"
    if row.loss_nats is None and row.stopped_at_hurdle is not None:
        loss, bits, delta = row.hurdle_loss_nats, None, f"hurdle {row.stopped_at_hurdle}"
    elif row.loss_nats is None:
        bits, delta = None, row.outcome.partition(":")[2] or row.outcome.replace("_", " ")
    elif row.id != BASELINE_ID:
        delta = format_number(row.delta_bits_per_byte, "+.4f")
        noise = (
            "unstable" if row.diverged else "inside" if row.inside_noise else format_number(row.noise_multiple, "+.1f")
        )
    cells = (
        format_number(row.rank, "d"),
        candidate_name(row.id),
        format_number(loss),
        format_number(bits),
        delta,
        "–" if row.id == BASELINE_ID else format_number(row.equal_time_delta_bits_per_byte, "+.4f"),
        noise,
        format_number(row.step_ms, ".1f"),
        "–" if row.speed is None else f"{row.speed:.2f}×",
        format_count(row.parameters),
    )
    return dict(zip(_TITLES, cells, strict=True))


def confirmation_cells(row: Confirmation, priced: bool = False) -> dict[str, str]:
    """Return the result of a retrained program as text, by column; `priced` shows the differences in both views."""
    baseline = row.candidate_id == BASELINE_ID
    if priced:
        differences = {
            EQUAL_STEPS: format_estimate(row.difference),
            "at equal time": format_estimate(row.equal_time_difference),
        }
    else:
        differences = {
            "vs baseline, bits/byte (95%, best of all)": format_confirmed_difference(row.difference, unit=""),
        }
    return {
        "rank": format_number(row.rank, "d"),
        "id": row.name,
        "trainings": f"{row.trainings - row.failed} of {row.trainings}",
        "test nats": format_number(row.test_loss_nats),
        "bits/byte": format_number(row.test_bits_per_byte),
        **{title: "–" if baseline else text for title, text in differences.items()},
        **({"price": format_number(row.price, ".2f")} if priced else {}),
        "verdict": row.verdict,
    }


def _table(rows: Sequence[LeaderboardRow], initial_programs: Mapping[int, str], narrow: bool) -> Table:
    from rich.text import Text

    cells = [leaderboard_cells(row) for row in rows]
    left_out = {"step ms", "parameters"} if narrow else set()
    if all(row.equal_time_delta_nats is None for row in rows):
        left_out.add("equal time")
    titles = [title for title in _TITLES if title not in left_out]
    table = number_table(titles)
    table.add_column(Text("mutations, newest first", no_wrap=True, overflow="ellipsis"), min_width=12 if narrow else 16)
    for row, text in zip(rows, cells, strict=True):
        baseline = row.id == BASELINE_ID
        mutations = format_baseline_row(initial_programs) if baseline else format_mutations(row.lineage)
        table.add_row(
            *(text[title] for title in titles),
            Text(mutations, no_wrap=True, overflow="ellipsis"),  # the only column that shrinks
            style="dim" if row.rank is None else "bold" if baseline or row.id in initial_programs else "",
        )
    return table


def _confirmed_table(rows: Sequence[Confirmation]) -> Table:
    priced = any(row.price is not None for row in rows)
    cells = [confirmation_cells(row, priced) for row in rows]
    table = number_table(list(cells[0]), left=("verdict",), wrap=("verdict", EQUAL_STEPS))
    for row, text in zip(rows, cells, strict=True):
        table.add_row(*text.values(), style="bold" if row.candidate_id == BASELINE_ID or row.better else "")
    return table
