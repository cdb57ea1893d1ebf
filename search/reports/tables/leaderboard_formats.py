"""Leaderboard rows for other programs and documents: CSV with all fields, Markdown for a README, JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ...results.leaderboard_rows import Leaderboard
from ...results.selection.row_fields import FIELDS, Cell, RunRow
from ...results.selection.selected_rows import differing_settings, run_names
from ..phrases import format_baseline, headline
from .leaderboard_table import MUTATIONS, row_cells

__all__ = ["format_csv", "format_markdown", "leaderboard_json", "markdown_table"]

_MARKDOWN = (
    *("run", "rank", "id", "loss nats", "bits/byte", "vs baseline", "equal time", "noise"),
    *("on test text", "at equal time", "speed", "parameters", MUTATIONS),
)
"""Titles of the Markdown table, in order; a column without values is left out."""

_TEXT = ("id", "run", MUTATIONS)


def format_csv(rows: Sequence[RunRow]) -> str:
    """Return the rows as CSV: a header with all fields, numbers in full precision, unknown values empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in FIELDS])
    writer.writerows([_plain(field.read(each)) for field in FIELDS] for each in rows)
    return out.getvalue()


def format_markdown(rows: Sequence[RunRow], boards: Sequence[Leaderboard]) -> str:
    """Return the rows as a Markdown table, with the baseline and the result of each run below it."""
    several = len(boards) > 1
    units = " or ".join(dict.fromkeys(board.loss_unit for board in boards))
    lines = [
        *markdown_table(rows, boards),
        "",
        f"Differences to the baseline of the same run in {units}; lower is better.",
    ]
    for name, board in zip(run_names(boards), boards, strict=True):
        lines += ["", f"{f'{name}: ' if several else ''}baseline {format_baseline(board.baseline)}. {headline(board)}"]
    if differing := differing_settings(boards):
        lines += ["", incomparable(differing)]
    return "\n".join(lines) + "\n"


def markdown_table(rows: Sequence[RunRow], boards: Sequence[Leaderboard]) -> list[str]:
    """Return the lines of the table, without the text below it."""
    cells = [row_cells(each, boards[0].initial_programs, runs=True, mutations=3) for each in rows]
    titles = [
        title
        for title in _MARKDOWN
        if (len(boards) > 1 or title != "run") and any(each[title] not in ("", "–") for each in cells)
    ]
    lines = [_line(titles), _line([":--" if title in _TEXT else "--:" for title in titles])]
    return lines + [_line([_escape(each[title]) for title in titles]) for each in cells]


def leaderboard_json(rows: Sequence[RunRow], boards: Sequence[Leaderboard]) -> dict[str, Any]:
    """Return the rows as plain JSON values: the leaderboard of one run, or `runs` and the `candidates` of all."""
    dicts = [board.to_dict() for board in boards]
    known = {
        (name, row["id"]): row
        for name, each in zip(run_names(boards), dicts, strict=True)
        for row in each["candidates"]
    }
    candidates = [known[each.run, each.row.id] for each in rows]
    if len(boards) == 1:
        return {**dicts[0], "candidates": candidates}
    for each in dicts:
        del each["candidates"]
    return {
        "runs": dicts,
        "differing_settings": differing_settings(boards),
        "candidates": [{"run": each.run, **row} for each, row in zip(rows, candidates, strict=True)],
    }


def incomparable(differing: Sequence[str]) -> str:
    """Return a warning about runs whose losses cannot be compared."""
    named = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
    return f"The runs differ in {named}: compare differences to each run's own baseline, not losses."


def _plain(value: Cell) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    for sign in "\\|*_<":  # Markdown would read them as columns, emphasis or HTML
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
