"""Usage errors of Typer as one sentence, with a suggestion for a misspelt word."""

from __future__ import annotations

import re

from ..primitives.suggestions import did_you_mean

__all__ = ["one_line", "usage_sentence"]


def usage_sentence(error: Exception) -> str:
    """Return a usage error of Typer as one sentence. The classes of these errors are not public, so none is named."""
    format_message = getattr(error, "format_message", error.__str__)
    message = one_line(format_message()).rstrip(".").replace("Value error, ", "").replace("Input should be", "must be")
    if near := getattr(error, "possibilities", None):  # the error is an unknown option
        message = f"{message.partition(' (')[0]}; did you mean {near[0]}?"
    if wrong := re.search(r"'([^']*)' is not one of (.*)", message):
        message += did_you_mean(wrong[1], re.findall(r"'([^']+)'", wrong[2]), "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "primer-search"
    if message.startswith("No such command"):
        word = message.split("'")[1] if "'" in message else ""
        names = [*getattr(getattr(context, "command", None), "commands", {})]
        message = f"unknown command {word!r}{did_you_mean(word, names, '')}"
        return f"{message} (see `{path} --help`)"
    return f"{message[:1].lower()}{message[1:]} (see `{path} --help`)"


def one_line(text: str) -> str:
    r"""Return the text on one line, with single spaces.

    >>> one_line("two\n  lines")
    'two lines'
    """
    return " ".join(text.split())
