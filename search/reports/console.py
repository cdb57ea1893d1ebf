"""Console for results, and the common form of their tables and texts.

On a terminal, tables fit its width. If the terminal is narrow, titles are broken over several lines, columns are left
out in a fixed order, and a note names them. Texts wrap between words. If the output is not a terminal, tables have all
columns unless COLUMNS sets a width, and each text stays on one line, so that other programs can read it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["Layout", "console_for", "print_command", "print_facts", "print_table", "print_text"]

PLAIN_WIDTH = 140
"""Width in characters of an output that is not a terminal, if COLUMNS is not set. A wider table extends it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table adapts to a narrow console.

    Attributes:
        left: titles of the columns that are aligned to the left; the others are aligned to the right.
        shrink: smallest width in characters, by title, of each column whose text may be shortened with an ellipsis.
        tail: titles of columns that keep the end of a shortened text, such as `…082128-seed0`, because the ends differ.
        wrap: smallest width in characters, by title, of each column whose text may wrap between words.
        drop: titles of the columns that may be left out, in this order.
    """

    left: Collection[str] = ()
    shrink: Mapping[str, int] = field(default_factory=dict)
    tail: Collection[str] = ()
    wrap: Mapping[str, int] = field(default_factory=dict)
    drop: Sequence[str] = ()


def console_for(stream: TextIO) -> Console:
    """Return a console on a stream, wide enough for tables if the stream is not a terminal."""
    from rich.console import Console

    class ResultConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # BrokenPipeError, which `main` handles; rich would exit with code 1

    width = None if stream.isatty() else _requested_width() or PLAIN_WIDTH
    return ResultConsole(file=stream, width=width, highlight=False, emoji=False)


def print_table(
    rows: Sequence[Mapping[str, str]], console: Console, layout: Layout, styles: Sequence[str] = ()
) -> None:
    """Print a table that is not wider than the console, and name the columns that are left out.

    Args:
        rows: text of each cell by title; all rows have the same titles.
        console: console to print on.
        layout: rules by which the table adapts to the width.
        styles: style of each row.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    every = list(rows[0]) if rows else []
    if not console.is_terminal and _requested_width() is None:  # each row in one line
        layout = replace(layout, wrap={title: _longest(title, rows) for title in layout.wrap if title in every})
        console.width = max(console.width, _width(every, rows, layout, compact=False))
    compact = _width(every, rows, layout, compact=False) > console.width
    titles = _titles_with_room(every, rows, layout, console.width) if compact else every
    room = max(console.width - _width(titles, rows, layout, compact=compact), 0)
    padding = (0, 1, 0, 0) if compact else (0, 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=padding)
    widths = {}
    for title in titles:
        width = _column(title, rows, layout, compact)
        if title in layout.shrink or title in layout.wrap:  # these columns share the free width, the first one first
            extra = min(max(_longest(title, rows) - width, 0), room)
            width, room = width + extra, room - extra
        widths[title] = width
        table.add_column(
            Text(_heading(title, layout, compact), overflow="fold" if title in layout.wrap else "ellipsis"),
            justify="left" if title in layout.left else "right",
            no_wrap=title not in layout.wrap,
            width=width,
        )
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        cells = (_tail(row[title], widths[title]) if title in layout.tail else row[title] for title in titles)
        table.add_row(*(Text(cell, overflow="ellipsis") for cell in cells), style=style)
    console.print(table)
    if left_out := [title for title in every if title not in titles]:
        print_text(
            f"no room for {', '.join(title.partition(',')[0] for title in left_out)} in {console.width} columns",
            console,
            "dim",
        )


def _tail(text: str, width: int) -> str:
    """Return the end of a text that is longer than a column.

    >>> _tail("20261130-082128-seed0", 6)
    '…seed0'
    """
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def print_facts(facts: Sequence[tuple[str, str]], console: Console) -> None:
    """Print names and texts in two columns."""
    from rich.table import Table
    from rich.text import Text

    if console.is_terminal:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for name, text in facts:
            grid.add_row(Text(name), Text(text))
        console.print(grid)
        return
    width = max((len(name) for name, _ in facts), default=0)
    for name, text in facts:
        print_text(f"{name:<{width}}  {text}", console)


def print_text(text: str, console: Console, style: str = "", indent: int = 0) -> None:
    """Print a text, wrapped between words on a terminal."""
    from rich.padding import Padding
    from rich.text import Text

    if console.is_terminal:
        console.print(Padding(Text(text, style), (0, 0, 0, indent), expand=False) if indent else Text(text, style))
    else:
        console.print(Text(" " * indent + text, style), soft_wrap=True)


def print_command(command: str, console: Console) -> None:
    """Print a shell command. On a terminal, a long command continues after a backslash, so that it can be copied."""
    lines, room = ["  "], console.width - 2
    for word in command.split(" "):
        if console.is_terminal and lines[-1].strip() and len(lines[-1]) + len(word) + 1 > room:
            lines[-1] += "\\"
            lines.append("    ")
        lines[-1] += f"{word} "
    for line in lines:
        console.print(line.rstrip(), soft_wrap=True, markup=False, highlight=False)


def _requested_width() -> int | None:
    """Return the width that COLUMNS sets; None without."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else None


def _titles_with_room(
    every: Sequence[str], rows: Sequence[Mapping[str, str]], layout: Layout, room: int
) -> Sequence[str]:
    """Return the titles of the columns that fit into a compact table of width `room`, in their order."""

    def without(dropped: Collection[str]) -> list[str]:
        return [title for title in every if title not in dropped]

    dropped: list[str] = []
    for title in layout.drop:
        if _width(without(dropped), rows, layout, compact=True) > room:
            dropped.append(title)
    for title in reversed(dropped.copy()):  # a narrow column may fit where a wider one did not
        kept = [each for each in dropped if each != title]
        if _width(without(kept), rows, layout, compact=True) <= room:
            dropped = kept
    return without(dropped)


def _width(titles: Sequence[str], rows: Sequence[Mapping[str, str]], layout: Layout, *, compact: bool) -> int:
    """Return the smallest width of a table in characters, with its gaps."""
    gap = 2 if compact else 3
    return sum(_column(title, rows, layout, compact) + gap for title in titles) - gap


def _column(title: str, rows: Sequence[Mapping[str, str]], layout: Layout, compact: bool) -> int:
    """Return the smallest width of a column in characters."""
    from rich.cells import cell_len

    longest = _longest(title, rows)
    if title in layout.wrap:
        return max(min(longest, layout.wrap[title]), *map(cell_len, title.split()))
    heading = max(map(cell_len, _heading(title, layout, compact).split("\n")))
    return max(heading, min(longest, layout.shrink.get(title, longest)))


def _longest(title: str, rows: Sequence[Mapping[str, str]]) -> int:
    from rich.cells import cell_len

    return max(cell_len(row[title]) for row in rows)


def _heading(title: str, layout: Layout, compact: bool) -> str:
    """Return a title; in a compact table, it is broken over several lines."""
    if not compact or title in layout.wrap:
        return title
    return title.replace(", ", ",\n") if title in layout.shrink else title.replace(" ", "\n")
