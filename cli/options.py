"""Options that several commands share, and helpers that print or choose the device."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from ..system.signals import raise_if_interrupted
from ..system.standard_streams import print_message

__all__ = [
    "Accelerator",
    "Address",
    "Candidate",
    "Config",
    "Data",
    "Executor",
    "FullTrialBudget",
    "Init",
    "Json",
    "Overrides",
    "Quiet",
    "Run",
    "RunOrName",
    "Top",
    "Track",
    "Workers",
    "WorkersPerDevice",
    "choose_platform",
    "pin_to_cpu",
    "print_json",
    "say",
    "say_unless",
    "set_jax_platforms",
    "share_the_device",
]

Run = Annotated[str, typer.Argument(help="Directory of a run, or its name under runs/.", metavar="RUN")]
RunOrName = Annotated[str, typer.Argument(help="A run, or a library program such as PRIMER_EZ.", metavar="RUN|NAME")]
Top = Annotated[int, typer.Option(help="Rows of the leaderboard printed at the end.", min=1, metavar="N")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show only errors and the final result.")]
Candidate = Annotated[
    str | None,
    typer.Argument(
        help="Number of a candidate, `best` (the best retrained candidate, or if none was retrained, the best of the "
        "search) or `baseline`.",
        metavar="CANDIDATE",
        show_default=False,
    ),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        help="Program to start from: a library name, RUN:CANDIDATE or a DNA file; repeatable.",
        metavar="PROGRAM",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        help="A preset or a .toml file.",
        metavar="PRESET|FILE",
        show_default="by accelerator: laptop, gpu or tpu",
    ),
]
FullTrialBudget = Annotated[
    str | None,
    typer.Option(
        help="Budget of each candidate's full trial: 5m, or 5000steps.",
        metavar="BUDGET",
        show_default="the preset's",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting; repeatable.", metavar="SECTION.KEY=VALUE")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Text to train on: python-stdlib, text:PATH, tokens:PATH, lm1b or tfds:NAME (see docs/data.md).",
        metavar="SOURCE",
        show_default="the preset's",
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Trainings that run in parallel; 0: one per core or device.", min=0, metavar="N")
]
Executor = Annotated[
    Literal["ray", "inline"] | None,
    typer.Option(help="Where trials run: in Ray workers, or in this process.", show_default="the preset's"),
]
Accelerator = Annotated[
    Literal["auto", "cpu", "gpu", "tpu"] | None,
    typer.Option(help="Accelerator to train on; auto uses what JAX finds."),
]
WorkersPerDevice = Annotated[
    int | None,
    typer.Option(help="Workers that share one GPU and its memory.", min=1, metavar="N", show_default="1, or the run's"),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        help="Also log the trials to tensorboard, wandb or mlflow; repeatable (see docs/tracking.md).",
        metavar="TRACKER",
    ),
]
Address = Annotated[str | None, typer.Option(help="Ray cluster to use: host:port, or auto.", metavar="RAY")]


def say(line: str) -> None:
    """Print a message on stderr; if a signal has asked the command to stop, raise KeyboardInterrupt instead."""
    raise_if_interrupted()
    print_message(line, sys.stderr)


def say_unless(quiet: bool) -> Callable[[str], None]:
    """Return `say`, or a function that prints nothing if `quiet`."""
    return (lambda line: None) if quiet else say


def print_json(value: Any) -> None:
    """Print one JSON object on stdout.

    Raises:
        ValueError: the value contains NaN or infinity, which JSON does not have.
    """
    print(json.dumps(value, allow_nan=False))


def set_jax_platforms() -> None:
    """Remove JAX_PLATFORM_NAME, which JAX deprecates, and add the CPU to the platforms that JAX_PLATFORMS names.

    With JAX_PLATFORM_NAME=gpu, a process that is restricted to the CPU would look for a GPU and fail. Without it, JAX
    still uses the GPU by default. The CPU is needed because exports are checked on it.
    """
    only_cpu = os.environ.pop("JAX_PLATFORM_NAME", "").lower() == "cpu"
    if platforms := os.environ.get("JAX_PLATFORMS") or "cpu" * only_cpu:
        os.environ["JAX_PLATFORMS"] = ",".join(dict.fromkeys([*platforms.split(","), "cpu"]))


def share_the_device() -> None:
    """Make JAX allocate device memory only as needed, because a search may be using the same device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def choose_platform(
    accel: str = "auto", executor: str = "inline", address: str | None = None, quiet: bool = False, run: str = ""
) -> None:
    """Find the platform for `--accel`, and restrict this process to the CPU if it needs no other platform.

    If an accelerator cannot be used, print the reason. `run` is the run that sets `accel`, for messages.

    Raises:
        UsageError: the accelerator does not exist.
    """
    from ..workers.devices.discovery import resolve_platform, visible_devices

    platform = resolve_platform(accel, address=address, setting_of=run and f"run {run}")
    if accel == "auto" and address is None and not quiet and (trouble := visible_devices().trouble):
        say(f"using the CPU: {trouble}")
    pin_to_cpu(platform, executor)


def pin_to_cpu(platform: str, executor: str) -> None:
    """Hide accelerators from JAX in this process, unless it trains on one itself (`inline`)."""
    if platform == "cpu" or executor != "inline":
        from ..workers.devices.discovery import use_cpu_only

        use_cpu_only()
