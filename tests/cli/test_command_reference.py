"""docs/commands.md is generated from the command line, and up to date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

import primer_search
from primer_search.cli.app import app

PACKAGE = Path(primer_search.__file__).parent


def reference() -> str:
    """Return the text of docs/commands.md."""
    root = typer.main.get_command(app)
    parts = [
        "# Commands",
        "This page is generated from the help of the commands: "
        "`PRIMER_SEARCH_WRITE_DOCS=1 make test ARGS=tests/cli/test_command_reference.py`.",
        "Exit codes: 0 done; 1 the work failed; 2 wrong usage, configuration or data; 130 interrupted (state saved); "
        "141 the reader of a table closed the pipe.",
    ]
    todo: list[tuple[str, Any]] = [("primer-search", root)]
    while todo:
        name, item = todo.pop(0)
        parts += described(name, item)
        todo = [(f"{name} {key}", sub) for key, sub in getattr(item, "commands", {}).items()] + todo
    return "\n\n".join(parts) + "\n"


def described(name: str, item: Any) -> list[str]:
    """Return the paragraphs about one command: usage, help, arguments and options."""
    arguments = [parameter for parameter in item.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in item.params if parameter.param_type_name == "option"]
    words = [argument.metavar if argument.required else f"[{argument.metavar}]" for argument in arguments]
    written = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    rows = [("`" + word + "`", item.help, "") for word, item in zip(words, arguments, strict=True)]
    for option in options:
        annotation = option.type_descriptor.annotation
        choices = "|".join(get_args(annotation)) if get_origin(annotation) is Literal else ""
        value = "" if option.is_flag else f" {option.metavar or choices}".rstrip()
        default = "" if option.is_flag or option.default is None else f"`{option.default}`"
        default = option.show_default if isinstance(option.show_default, str) else default
        default = "**required**" if option.required else default
        rows.append((f"`{', '.join(option.opts)}{value}`", option.help, default))
    lines = ["| | | default |", "|---|---|---|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [f"## {name}", f"    {written}", *item.help.strip().split("\n\n"), *(["\n".join(lines)] if rows else [])]


def test_the_reference_of_the_commands_is_up_to_date() -> None:
    file = PACKAGE / "docs" / "commands.md"
    if os.environ.get("PRIMER_SEARCH_WRITE_DOCS"):
        file.write_text(reference(), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == reference(), "run the command in its second line"
