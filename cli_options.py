"""What the commands share: options of one meaning and one help text, the two ways to print, and inline training."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = [
    "Address",
    "Candidate",
    "Json",
    "Run",
    "SearchGroup",
    "Seeds",
    "WorkersPerDevice",
    "pin_to_cpu",
    "print_json",
    "say",
]

Run = Annotated[str, typer.Argument(help="A run: its directory, or its name under runs/.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Candidate = Annotated[
    str | None, typer.Argument(help="A candidate's number, `best` or `seed`.", metavar="CANDIDATE", show_default=False)
]
Seeds = Annotated[
    list[str] | None,
    typer.Option(
        "--seeds",
        help="Start from these programs, in equal parts: library names (fitted to the width), RUN:ID, files of DNA "
        "(as they are). Repeatable, or several at once.",
        metavar="WHAT...",
    ),
]
WorkersPerDevice = Annotated[
    int | None, typer.Option(help="How many share a GPU and its memory [1; for a run, as in it].", min=1, metavar="N")
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


class SearchGroup(TyperGroup):
    """The command with its subcommands; `--seeds A B` is read as `--seeds A --seeds B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        taking = {name for option in self.params if not getattr(option, "is_flag", False) for name in option.opts}
        return super().parse_args(ctx, list(_each_with_its_option("--seeds", args, taking, self.commands)))


def _each_with_its_option(
    option: str, words: Iterable[str], taking: Container[str], commands: Container[str]
) -> Iterator[str]:
    """The words, the option repeated before each of its values, up to a subcommand.

    Args:
        option: may have several values.
        words: of the command line.
        taking: options with a value, which is never taken for a subcommand.
        commands: names of subcommands.
    """
    rest = deque(words)
    while rest and rest[0] not in commands:
        word = rest.popleft()
        yield word
        if word in taking and rest:
            yield rest.popleft()
        while word.partition("=")[0] == option and rest and not rest[0].startswith("-") and rest[0] not in commands:
            yield from (option, rest.popleft())
    yield from rest
