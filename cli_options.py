"""What the commands share: options of one meaning and one help text, the two ways to print, and inline training."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

__all__ = ["Address", "Candidate", "Json", "Run", "print_json", "say", "use_cpu_inline"]

Run = Annotated[str, typer.Argument(help="A run: its directory, or its name under runs/.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Candidate = Annotated[
    str | None, typer.Argument(help="A candidate's number, `best` or `seed`.", metavar="CANDIDATE", show_default=False)
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster: host:port, or auto.", metavar="RAY")]


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout; not-a-number is an error."""
    print(json.dumps(value, allow_nan=False))


def use_cpu_inline(platform: str, executor: str) -> None:
    """JAX reads the variable when it is first imported, which for `inline` is in this process."""
    if platform == "cpu" and executor == "inline":
        os.environ["JAX_PLATFORMS"] = "cpu"
