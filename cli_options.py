"""What the commands share: options of one meaning and one help text, the two ways to print, and inline training."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import typer

__all__ = [
    "Accelerator",
    "Address",
    "Candidate",
    "Config",
    "Data",
    "Executor",
    "Init",
    "Json",
    "Overrides",
    "Run",
    "RunOrName",
    "Top",
    "Workers",
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
Config = Annotated[
    str | None,
    typer.Option(help="A preset or a .toml file [by accelerator: laptop, gpu or tpu].", metavar="PRESET|FILE"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting; repeatable.", metavar="SECTION.KEY=VALUE")
]
Data = Annotated[
    str | None, typer.Option(help="python-stdlib, text:PATH, lm1b or tfds:NAME (docs/data.md).", metavar="SOURCE")
]
Workers = Annotated[
    int | None, typer.Option(help="Trainings at the same time; 0: one for each core or device.", min=0, metavar="N")
]
Executor = Annotated[
    Literal["ray", "inline"] | None, typer.Option(help="ray, or inline (in this process).", metavar="NAME")
]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu", "tpu"] | None, typer.Option(help="auto, cpu, gpu or tpu.", metavar="NAME")
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
