"""Console for results, and the common form of their tables."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console
    from rich.table import Table

__all__ = ["console_for", "number_table", "print_facts"]

PLAIN_WIDTH = 140
"""Columns of an output that is not a terminal, if COLUMNS is not set."""


def console_for(stream: TextIO) -> Console:
    """Return a console on a stream, wide enough for tables if the stream is not a terminal."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    width = None if stream.isatty() else int(columns) if columns.isdecimal() and int(columns) else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False)


def number_table(
    titles: Sequence[str], left: Collection[str] = (), wrap: Collection[str] = (), **options: Any
) -> Table:
    """Return an empty table.

    Args:
        titles: titles of the columns.
        left: titles of the columns of text, aligned to the left; the others are aligned to the right.
        wrap: titles of the columns that may wrap.
        options: options of rich's `Table`.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", **options)
    for title in titles:
        table.add_column(title, justify="left" if title in left else "right", no_wrap=title not in wrap)
    return table


def print_facts(facts: Sequence[tuple[str, str]], console: Console) -> None:
    """Print names and texts in two columns."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        console.print(f"[dim]{name:<{width}}[/]  {text}", soft_wrap=True)
