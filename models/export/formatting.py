"""Python text as `ruff format` would leave it (line length 120): calls that wrap, docstrings, safe names.

The exporter formats its own text, deterministically; nothing here needs a formatter at run time.
"""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Sequence

__all__ = ["LINE_LENGTH", "call_lines", "docstring_text", "identifier", "paragraph"]

LINE_LENGTH = 120


def call_lines(head: str, arguments: Sequence[str], tail: str, indent: int) -> list[str]:
    """`head(arguments)tail` on one line, or wrapped: all arguments on the next line, or one a line.

    Example:
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
    """Text from outside made safe inside a docstring: one line, no quotes or escapes that would end or change it."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def paragraph(text: str, indent: int = 0, hanging: int = 0) -> list[str]:
    """Text wrapped to the line length; later lines are indented by `hanging` more."""
    pad = " " * indent
    return textwrap.wrap(
        text, LINE_LENGTH, initial_indent=pad, subsequent_indent=pad + " " * hanging, break_on_hyphens=False
    )


def identifier(text: str, longest: int = 32) -> str:
    """A lower-case Python identifier that resembles `text`.

    Example:
        >>> identifier("Layer norm (2nd)"), identifier("3x"), identifier("class")
        ('layer_norm_2nd', 'value_3x', 'class_value')
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:longest].strip("_")
    if not name:
        return "value"
    if name[0].isdigit():
        name = f"value_{name}"[:longest]
    return f"{name}_value" if keyword.iskeyword(name) or keyword.issoftkeyword(name) else name
