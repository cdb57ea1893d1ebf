"""What the commands share: options of one meaning and one help text, and the two ways to print."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

__all__ = ["Address", "Candidate", "Json", "Run", "print_json", "say"]

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
