"""Complaints of the command line's parser, in one sentence with the nearest right word."""

from __future__ import annotations

import re

from .primitives.suggestions import did_you_mean

__all__ = ["one_line", "usage_sentence"]


def usage_sentence(error: Exception) -> str:
    """What Typer's parser complains of, as a sentence; its exceptions are known by what they carry only."""
    said = getattr(error, "format_message", error.__str__)
    message = one_line(said()).rstrip(".").replace("Value error, ", "")
    if near := getattr(error, "possibilities", None):  # of an option that does not exist
        message = f"{message.partition(' (')[0]}; did you mean {near[0]}?"
    if wrong := re.search(r"'([^']*)' is not one of (.*)", message):
        message += did_you_mean(wrong[1], re.findall(r"'([^']+)'", wrong[2]), "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "primer-search"
    if message.startswith("No such command"):
        word = message.split("'")[1] if "'" in message else ""
        names = [*getattr(getattr(context, "command", None), "commands", {})]
        message = f"there is no command {word!r}{did_you_mean(word, names, '')}"
        return f"{message} (`{path} --help` lists them)"
    return f"{message[:1].lower()}{message[1:]} (`{path} --help` says how)"


def one_line(text: str) -> str:
    r"""The text on one line, its runs of white space single.

    >>> one_line("two\n  lines")
    'two lines'
    """
    return " ".join(text.split())
