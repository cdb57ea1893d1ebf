"""What the commands share: options of one meaning and one help text, the two ways to print, and inline training."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

__all__ = [
    "Address",
    "Candidate",
    "Init",
    "Json",
    "Run",
    "RunOrName",
    "Top",
    "WorkersPerDevice",
    "pin_to_cpu",
    "print_json",
    "say",
]

Run = Annotated[str, typer.Argument(help="A run: its directory, or its name under runs/.", metavar="RUN")]
RunOrName = Annotated[str, typer.Argument(help="A run, or the name of a library program.", metavar="RUN|NAME")]
Top = Annotated[int, typer.Option(help="Rows of the leaderboard at the end.", min=1, metavar="N")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Candidate = Annotated[
    str | None,
    typer.Argument(help="A candidate's number, `best` or `baseline`.", metavar="CANDIDATE", show_default=False),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        help="A program the population starts from: library names (fitted to the width), RUN:ID, files of DNA "
        "(as they are); repeatable.",
        metavar="PROGRAM",
    ),
]
WorkersPerDevice = Annotated[
    int | None,
    typer.Option(help="Workers that share one GPU and its memory [1; for a run, as in the run].", min=1, metavar="N"),
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster: host:port, or auto.", metavar="RAY")]


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout; not-a-number is an error."""
    print(json.dumps(value, allow_nan=False))


def pin_to_cpu(platform: str, executor: str) -> None:
    """Let this process's JAX see the CPU alone, unless it is to train on an accelerator itself (`inline`)."""
    if platform == "cpu" or executor != "inline":
        from .workers.devices.discovery import use_cpu_only

        use_cpu_only()
