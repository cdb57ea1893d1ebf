"""Leaderboard of a run as tables for the console, and cells of rows, which the pages also show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...evolution.candidate import BASELINE_ID, candidate_name
from ...results.confirmation import Confirmation
from ...results.leaderboard import best_row, leading_candidate
from ...results.leaderboard_rows import Leaderboard, LeaderboardRow
from ...results.selection.row_fields import RunRow
from ...results.selection.selected_rows import Selection, select_rows
from ..candidate_details import format_mutations
from ..console import Layout, print_facts, print_table, print_text
from ..formatting import format_count, format_estimate, format_number
from ..phrases import UNCONFIRMED, format_baseline_row, format_confirmed_difference, headline, run_facts, search_leader
from .scale_table import ladder_notes, print_ladder

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = [
    "MUTATIONS",
    "confirmation_cells",
    "leaderboard_cells",
    "next_commands",
    "print_leaderboard",
    "print_rows",
    "row_cells",
    "shown_rows",
]

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

EQUAL_STEPS = "vs baseline, bits/byte (joint 95%): at equal steps"
"""Title of the first of two columns of differences, if steps have a price. The second is `AT_EQUAL_TIME`.

The joint intervals hold for all listed programs together, so that the best one may be picked.
"""

AT_EQUAL_TIME = "at equal time"

DIFFERENCE = "vs baseline, bits/byte (joint 95%)"
"""Title of the only column of differences, if steps have no price."""

RANKED = (
    "ranked by the worse of the two differences, at equal steps and at equal time; noise: that difference as a "
    "multiple of the baseline's noise"
)
"""Note below a table with differences at equal time."""

MUTATIONS = "mutations, newest first"
"""Title of the column of mutations."""

LAYOUT = Layout(
    left=("run", MUTATIONS),
    shrink={"run": 6, MUTATIONS: 16},
    tail=("run",),
    drop=(
        *("parameters", "speed", "step ms", MUTATIONS, "loss nats", "rank", "noise"),
        *("bits/byte", "at equal time", "on test text"),
    ),
)
"""How the table of candidates adapts to a narrow console; `show` and the other formats have all values."""


def print_leaderboard(
    board: Leaderboard, console: Console, top: int = 10, rows: Sequence[RunRow] | None = None
) -> None:
    """Print the best candidates, facts about the run, retrained candidates if there are any, and the headline.

    Args:
        board: leaderboard of the run.
        console: console to print on.
        top: number of rows.
        rows: rows to print instead of the first `top` rows of the leaderboard.
    """
    if rows is None:
        rows = shown_rows(select_rows([board], Selection()), top)
    if board.rows:
        print_rows(rows, board.initial_programs, console)
        if any(each.row.equal_time_delta_nats is not None for each in rows):
            print_text(f"{RANKED} ({board.loss_unit})", console, "dim")
    else:
        print_text("no training has finished yet", console)
    console.print()
    print_facts(run_facts(board), console)
    for row in board.rows:
        if row.quarantine:
            print_text(f"{candidate_name(row.id)}: {row.quarantine}", console, "yellow")
    console.print()
    if board.confirmed:
        print_text("confirmed on the test text, with fresh random seeds", console, "bold")
        _print_confirmed(board, console)
        console.print()
    if board.ladder is not None:
        words = f"rank, and difference to the baseline in {board.loss_unit} (joint 95%)"
        print_text(f"at other sizes: {words}", console, "bold")
        print_ladder(board.ladder, console)
        console.print()
        for note in ladder_notes(board.ladder):
            print_text(note, console)
        console.print()
    print_text(headline(board), console, "bold")
    if leader := search_leader(board):
        print_text(leader, console)
    if best_row(board.rows) is not None and not board.confirmed:
        print_text(f"UNCONFIRMED: {UNCONFIRMED}.", console, "yellow")


def print_rows(
    rows: Sequence[RunRow], initial_programs: Mapping[int, str], console: Console, runs: bool = False
) -> None:
    """Print rows as a table, or a sentence if there are none.

    Args:
        rows: rows to print.
        initial_programs: origin of each imported initial program, by candidate id.
        console: console to print on.
        runs: whether to show the run of each row, and its result on the test text.
    """
    if not rows:
        print_text("no candidate meets the conditions", console)
        return
    cells = [row_cells(each, initial_programs, runs) for each in rows]
    optional = ("equal time", "on test text", "at equal time")
    empty = {title for title in optional if all(each.get(title, "–") == "–" for each in cells)}
    cells = [{title: text for title, text in each.items() if title not in empty} for each in cells]
    print_table(cells, console, LAYOUT, [_style(each) for each in rows])


def shown_rows(rows: Sequence[RunRow], top: int) -> list[RunRow]:
    """Return the first rows, and the rows of baselines and initial programs at any rank."""
    return [*rows[:top], *(each for each in rows[top:] if each.row.id == BASELINE_ID or each.origin is not None)]


def next_commands(run: Path, board: Leaderboard) -> list[str]:
    """Return commands that a user may run next."""
    best, named = leading_candidate(board), shlex.quote(str(run))
    commands = [f"primer-search resume {named} --budget 10m"]
    if best is not None:
        confirm = [] if board.confirmed else [f"primer-search confirm {named} --top 5 --repeats 3"]
        commands = [
            *confirm,
            f"primer-search show {named} {best} --diff baseline",
            f"primer-search export {named} {best} -o block.py",
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
        delta = format_number(row.delta_nats if bits is None else row.delta_bits_per_byte, "+.4f")
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


def row_cells(
    each: RunRow, initial_programs: Mapping[int, str], runs: bool, mutations: int | None = None
) -> dict[str, str]:
    """Return a row as text, by column.

    Args:
        each: the row.
        initial_programs: origin of each imported initial program, by candidate id.
        runs: whether to add the row's run and its result on the test text.
        mutations: number of mutations to name; None names all.
    """
    row, confirmation = each.row, each.confirmation
    baseline = row.id == BASELINE_ID
    edits = format_baseline_row(initial_programs) if baseline else format_mutations(row.lineage, mutations)
    cells = leaderboard_cells(row)
    if runs:
        known = None if baseline else confirmation
        tested = {
            "on test text": format_estimate(None if known is None else known.difference),
            "at equal time": format_estimate(None if known is None else known.equal_time_difference),
        }
        cells = {"run": each.run, **cells, **tested}
    return {**cells, MUTATIONS: edits}


def confirmation_cells(row: Confirmation, priced: bool, unit: str) -> dict[str, str]:
    """Return the result of a retrained program as text, by column.

    Args:
        row: the program.
        priced: whether to show the differences in both views.
        unit: `Leaderboard.loss_unit`.
    """
    baseline = row.candidate_id == BASELINE_ID
    if priced:
        differences = {
            EQUAL_STEPS: format_estimate(row.difference),
            AT_EQUAL_TIME: format_estimate(row.equal_time_difference),
        }
    else:
        differences = {
            DIFFERENCE: format_confirmed_difference(row.difference, unit=""),
        }
    return {
        "rank": format_number(row.rank, "d"),
        "id": row.name,
        "trainings": f"{row.trainings - row.failed} of {row.trainings}",
        "test nats": format_number(row.test_loss_nats),
        "bits/byte": format_number(row.test_bits_per_byte),
        **{title.replace("bits/byte", unit): "–" if baseline else text for title, text in differences.items()},
        **({"price": format_number(row.price, ".2f")} if priced else {}),
        "verdict": row.verdict,
    }


def _style(each: RunRow) -> str:
    if each.row.rank is None:
        return "dim"
    return "bold" if each.row.id == BASELINE_ID or each.origin is not None else ""


def _print_confirmed(board: Leaderboard, console: Console) -> None:
    rows, unit = board.confirmed, board.loss_unit
    priced = any(row.price is not None for row in rows)
    cells = [confirmation_cells(row, priced, unit) for row in rows]
    differences = {title.replace("bits/byte", unit): 9 for title in (EQUAL_STEPS, AT_EQUAL_TIME)}
    layout = Layout(
        left=("verdict",),
        wrap={**differences, DIFFERENCE.replace("bits/byte", unit): 12, "verdict": 14},
        drop=("test nats", "trainings", "price", "rank", "bits/byte"),
    )
    print_table(
        cells, console, layout, ["bold" if row.candidate_id == BASELINE_ID or row.better else "" for row in rows]
    )
