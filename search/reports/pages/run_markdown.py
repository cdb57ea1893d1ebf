"""Report of a run as Markdown, for a README or an issue: the numbers and sentences of the console."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ....primitives.differences.diff_printer import format_difference
from ....primitives.errors import UsageError
from ....system.files import write_output
from ...evolution.candidate import BASELINE_ID
from ...results.leaderboard import leaderboard, leading_candidate
from ...results.leaderboard_rows import Leaderboard
from ...results.selection.selected_rows import Selection, select_rows
from ..phrases import UNCONFIRMED, headline, run_conditions, run_facts, search_leader
from ..tables.leaderboard_formats import markdown_table
from ..tables.leaderboard_table import confirmation_cells, shown_rows
from ..tables.scale_table import ladder_notes, ladder_rows

if TYPE_CHECKING:
    from ...runs.store_reader import StoreReader

__all__ = ["render_markdown", "write_markdown"]

TOP = 10
"""Number of rows of the leaderboard."""

FIGURES = {
    "search.svg": "Validation loss of every training over the minutes of the search",
    "confirmed.svg": "Differences of the retrained programs to the baseline, with 95% intervals",
    "program.svg": "The best program as a graph, with its differences from the baseline",
    "curves.svg": "Learning curves of the best program and of the baseline",
    "lineage.svg": "Ancestors of the best candidates, and the gain of each edit",
    "edits.svg": "New programs by kind of edit and outcome",
}
"""Figures that the text shows, with their descriptions."""


def write_markdown(store: StoreReader, path: Path, figures: Sequence[Path] = ()) -> None:
    """Write the report to a file, whole or not at all, with links to written figures.

    Raises:
        UsageError: the file cannot be written, or another kind of file has its name.
    """
    if path.is_dir():
        raise UsageError(f"cannot write the report {path}: it is a folder; name a file in it with -o")
    if path.exists() and path.suffix.lower() not in (".md", ".markdown"):
        raise UsageError(f"{path} exists and is not a Markdown file; choose another file with -o")
    links = {each.name: quote(Path(relpath(each, path.parent)).as_posix()) for each in figures}
    write_output(path, render_markdown(store, links))


def render_markdown(store: StoreReader, figures: Mapping[str, str] | None = None) -> str:
    """Return the report as Markdown.

    Args:
        store: store of the run.
        figures: links to the written figures by file name; None for no figures.
    """
    with store.snapshot():
        board, manifest = leaderboard(store), store.manifest
        best = leading_candidate(board)
        programs = None if best is None else (store.candidate(BASELINE_ID).dna, store.candidate(best).dna)
    links = {name: place for name, place in (figures or {}).items() if name in FIGURES}
    blocks = [
        f"# Search {_text(store.run.path.resolve().name)}",
        f"**{_text(headline(board))}**",
        *([_text(leader)] if (leader := search_leader(board)) else []),
        *([] if board.confirmed or best is None else [f"> Unconfirmed: {_text(UNCONFIRMED)}."]),
        *_figures(links, ("search.svg",)),
        *_confirmed(board),
        *_figures(links, ("confirmed.svg",)),
        *_ladder(board),
        *_leaders(board),
    ]
    if best is not None and programs is not None:
        difference = format_difference(*programs)
        blocks += [f"## The best program, #{best}", _code(difference, "diff")]
        blocks += _figures(links, ("program.svg", "curves.svg", "lineage.svg", "edits.svg"))
    blocks += ["## How it was run", *_run(store, board, manifest)]
    return "\n\n".join(blocks) + "\n"


def _confirmed(board: Leaderboard) -> list[str]:
    if not board.confirmed:
        return []
    priced = any(row.price is not None for row in board.confirmed)
    rows = [confirmation_cells(row, priced, board.loss_unit) for row in board.confirmed]
    note = (
        "Retrained with fresh random seeds and scored once on the test text, which the search never reads. The "
        "intervals are corrected for choosing the best of the listed programs."
    )
    return ["## Confirmed", _table(rows, left=("id", "verdict")), note]


def _ladder(board: Leaderboard) -> list[str]:
    ladder = board.ladder
    if ladder is None:
        return []
    notes = "\n".join(f"- {_text(note)}" for note in ladder_notes(ladder))
    return ["## Other model sizes", _table(ladder_rows(ladder), left=("id",)), notes]


def _leaders(board: Leaderboard) -> list[str]:
    rows = shown_rows(select_rows([board], Selection()), TOP)
    if not rows:
        return []
    title = "## Leaderboard of the search, unconfirmed" if board.confirmed else "## Leaderboard"
    note = (
        f"Differences to the baseline are in {board.loss_unit}, lower is better; noise is in multiples of the "
        "baseline's."
    )
    return [title, "\n".join(markdown_table(rows, [board])), note]


def _run(store: StoreReader, board: Leaderboard, manifest: Mapping[str, Any]) -> list[str]:
    config = manifest.get("config", {})
    known = run_conditions(manifest)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    facts = {
        "started": known["started"],
        "budget": f"{known['budget']}, {known['workers']} workers",
        "random seed": known["random seed"],
        "data": known["data"],
        "machine": known["machine"],
        "device": str(board.about.get("device") or "?"),
        "versions": versions,
        **dict(run_facts(board)),
    }
    rows = [{"": name, "value": text} for name, text in facts.items() if text]
    settings = "\n".join(
        f"{section}.{key} = {value}" for section, values in config.items() for key, value in values.items()
    )
    command = manifest.get("command")
    words = command if isinstance(command, str) else shlex.join(command or [])
    return [
        *([_code(words, "")] if words else []),
        _table(rows, left=("", "value")),
        f"<details><summary>All settings</summary>\n\n{_code(settings, '')}\n\n</details>",
    ]


def _figures(links: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [f"![{FIGURES[name]}]({links[name]})" for name in names if name in links]


def _table(rows: Sequence[Mapping[str, str]], left: Sequence[str]) -> str:
    """Return rows of text as a table. The first row has the titles; columns not in `left` are aligned to the right."""
    titles = list(rows[0])
    lines = [
        [_cell(title) for title in titles],
        ["---" if title in left else "--:" for title in titles],
        *([_cell(row[title]) for title in titles] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """Return text on one line that Markdown does not read as HTML or as emphasis."""
    escaped = " ".join(text.split())
    for sign in "\\`*_<>[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def _code(text: str, language: str) -> str:
    """Return a block of code, fenced by more backticks in a row than the text has."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
