"""Formatting of Python text as by `ruff format` at line length 120: wrapped calls, paragraphs and safe docstrings.

The exporter formats the text itself, so that it needs no formatter at run time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["LINE_LENGTH", "call_lines", "docstring_text", "paragraph"]

LINE_LENGTH = 120


def call_lines(head: str, arguments: Sequence[str], tail: str, indent: int) -> list[str]:
    """Format `head(arguments)tail` on one line, with all arguments on the next line, or with one argument per line.

    >>> call_lines("f", ["a", "b=1"], "", 4)
    ['    f(a, b=1)']
    """
    pad, inner = " " * indent, " " * (indent + 4)
    joined = ", ".join(arguments)
    line = f"{pad}{head}({joined}){tail}"
    if len(line) <= LINE_LENGTH:
        return [line]
    if len(inner + joined) <= LINE_LENGTH:
        return [f"{pad}{head}(", inner + joined, f"{pad}){tail}"]
    return [f"{pad}{head}(", *(f"{inner}{argument}," for argument in arguments), f"{pad}){tail}"]


def docstring_text(text: str) -> str:
    """Return text on one line, without the quotes and escapes that would end or change a docstring."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def paragraph(text: str, hanging: int = 0) -> list[str]:
    """Wrap text to the line length; lines after the first are indented by `hanging`."""
    return textwrap.wrap(text, LINE_LENGTH, subsequent_indent=" " * hanging, break_on_hyphens=False)
