"""The command `doctor`, which tests the leak checks and the machine. It only parses and prints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..primitives.errors import WorkFailedError
from ..system.signals import interruptible
from .options import Json, Quiet, choose_platform, print_json, say, say_unless, share_the_device

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the checks of the language model, which need compilation.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that leaky programs are refused, that causal ones are not, and that the machine can run a search.

    Exit codes: 0 all checks passed; 1 a leaky program was accepted, a causal one was refused, or something is missing.
    """
    share_the_device()
    from ..search.runs.run_directory import running_search

    if (busy := running_search()) is not None:
        from ..workers.devices.discovery import use_cpu_only

        use_cpu_only()
        say(f"{busy.path} is searching: the checks run on the CPU and do not use its accelerator")
    else:
        choose_platform(quiet=True)  # quiet, because the findings name the platform
    from ..search.doctor.checks import examine, report
    from ..search.reports.console import console_for
    from ..search.reports.tables.doctor_table import print_findings

    findings = list(interruptible(examine(quick, progress=say_unless(quiet))))
    facts = report(findings)
    print_json(facts) if json_ else print_findings(findings, console_for(sys.stdout))
    if facts["failed"]:
        raise WorkFailedError(f"{len(facts['failed'])} of {len(findings)} checks failed: {', '.join(facts['failed'])}")
