"""The command `primer-search`. It parses options and prints results; other packages do the work.

Each command imports its modules when it runs, so that `--help` is fast. Exit codes: 0 done; 1 the work failed; 2 wrong
usage, configuration or data (one sentence); 130 interrupted (state saved); 141 the reader of a table closed the pipe.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from ..primitives.errors import PrimerSearchError, UsageError
from ..system.signals import GRACE_SECONDS, INTERRUPTED, interrupt_on_termination
from ..system.standard_streams import discard_output, prepare_standard_streams, print_line
from ..system.user_folders import user_path
from . import dashboard, doctor, programs, recovery, refine, runs, simulate, studies, tracking, weights
from .data import data_app
from .errors import one_line, usage_sentence
from .options import (
    Accelerator,
    Address,
    Config,
    Data,
    Executor,
    FullTrialBudget,
    Init,
    Json,
    Overrides,
    Quiet,
    Top,
    Track,
    Workers,
    WorkersPerDevice,
    pin_to_cpu,
    print_json,
    say,
    set_jax_platforms,
)
from .plugins import Plugins, load_named_plugins, with_plugins

if TYPE_CHECKING:
    from ..search.sessions.session import SearchResult

__all__ = ["app", "main"]

CLOSED_PIPE = 141
"""Exit code if the reader of stdout closed the pipe; a shell gives the same code to a command that SIGPIPE ends."""

app = typer.Typer(
    name="primer-search",
    help="Search for better decoder blocks of language models by training them, within a wall-clock budget.",
    epilog="DURATION is a number with a unit: 90s, 10m, 24h or 7d. Commands that print a table take --json.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

app.add_typer(data_app, name="data")
for module in (
    runs,
    recovery,
    dashboard,
    programs,
    studies,
    doctor,
    simulate,
    weights,
    refine,
    tracking,
):
    module.register(app)
for command in app.registered_commands:
    if command.callback is not None:
        command.callback = with_plugins(command.callback)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and print every error as one line on stderr.

    Args:
        arguments: words of the command line without the program's name; None takes them from `sys.argv`.

    Returns:
        The exit code.
    """
    if arguments is not None:
        return _interruptible(list(arguments), None)
    prepare_standard_streams()
    set_jax_platforms()
    code = _interruptible(sys.argv[1:], GRACE_SECONDS)
    if code == INTERRUPTED:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)  # after an interrupted compilation XLA crashes when Python shuts down
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C from here on should not print a traceback
    return code


def _interruptible(words: list[str], grace_seconds: float | None) -> int:
    """Run the command, and return its exit code: 130 if a signal arrived, even if its exception was suppressed."""
    try:
        with interrupt_on_termination(grace_seconds) as interruption:
            code = _run(words)
            if interruption.requested and code != INTERRUPTED:
                code = _print_error("interrupted", INTERRUPTED)
            return code
    except KeyboardInterrupt:  # the signal came after the command
        return _print_error("interrupted", INTERRUPTED)


def _run(words: list[str]) -> int:
    """Run the command, print every error as one line, and return the exit code."""
    try:
        code = app(args=words, prog_name="primer-search", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # Typer caught it without a message
        return code if isinstance(code, int) else 0
    except PrimerSearchError as error:
        return _print_error(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("primer_search"):
            raise
        return _print_error(f"the package {error.name} is not installed: pip install {error.name}", 2)
    except TyperException as error:
        return _print_error(usage_sentence(error), 2)
    except KeyboardInterrupt:
        return _print_error("interrupted", INTERRUPTED)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        discard_output()  # Typer turns the closed pipe into an exit
        return CLOSED_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            discard_output()
            return _print_error(f"cannot write the output: {error.strerror}", 1)
        if os.environ.get("PRIMER_SEARCH_DEBUG") or "--debug" in words:
            raise
        kind = type(error).__name__
        return _print_error(
            f"{kind}: {one_line(str(error))} (a bug in primer-search; set PRIMER_SEARCH_DEBUG=1 for the traceback)", 1
        )


@app.callback()
def search(
    context: typer.Context,
    budget: Annotated[str, typer.Option(help="Wall-clock time of the whole search.", metavar="DURATION")] = "10m",
    trial_budget: FullTrialBudget = None,
    config: Config = None,
    set_: Overrides = None,
    data: Data = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder to store the run in.", metavar="DIR", show_default="runs/<time>-seed<seed>", parser=user_path
        ),
    ] = None,
    workers: Workers = None,
    workers_per_device: WorkersPerDevice = None,
    seed: Annotated[int, typer.Option(help="Random seed of the search.", min=0, metavar="N")] = 0,
    init: Init = None,
    address: Address = None,
    executor: Executor = None,
    accel: Accelerator = None,
    strategy: Annotated[
        Literal["evolution", "random", "random-init", "guided", "guided-random"] | None,
        typer.Option(
            help="How candidates are proposed: evolution (the paper's), random (evolution without selection), "
            "random-init (random programs), guided (docs/discovery.md), or guided-random (guided with random parents).",
            show_default="the preset's",
        ),
    ] = None,
    plugin: Plugins = None,
    track: Track = None,
    top: Top = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Search for better decoder blocks within a budget of wall clock, starting from the Transformer."""
    started_at = time.monotonic()
    if context.invoked_subcommand is not None:
        _refuse_stray_options(context)
        return
    if version:
        from importlib.metadata import version as version_of

        print_line(f"primer-search {version_of('primer-search')}")
        return
    load_named_plugins(plugin)
    from ..configs.plan import make_plan, with_epoch_warning
    from ..search.tracking.tracker_names import check_trackers
    from ..workers.devices.discovery import fake_devices

    plan = make_plan(
        budget=budget,
        trial_budget=trial_budget,
        config=config,
        overrides=set_ or (),
        data=data,
        workers=workers,
        workers_per_device=workers_per_device,
        executor=executor,
        accel=accel,
        address=address,
        fake=fake_devices(dry_run),
        strategy=strategy,
        init=init or (),
    )
    trackers = check_trackers(track or ())
    if dry_run:  # a search prints this note when it has prepared the text
        plan = with_epoch_warning(plan)
    for note in () if quiet else plan.notes:
        say(note)
    if dry_run:
        facts = plan.to_dict(seed, run_dir)
        print_json(facts) if json_ else print_line("\n".join(plan.lines(seed, run_dir)))
        return
    from datetime import datetime

    from ..search.runs.run_directory import create_run_directory, new_run_directory
    from ..search.sessions.run_search import OutputOptions, search_with_display

    run = new_run_directory(seed, datetime.now()) if run_dir is None else create_run_directory(run_dir)
    if not quiet:
        say(f"run {run.path}: {plan.preset}, {budget} of search, seed {seed}")

    def begin(**hooks: Any) -> SearchResult:
        from ..search.sessions.session import SessionOptions, start

        return start(
            plan.config,
            run,
            seed=seed,
            budget_seconds=plan.budget_seconds,
            initial_programs=plan.initial_programs,
            options=SessionOptions(address, started_at, larger=plan.larger, track=trackers, **hooks),
        )

    pin_to_cpu(plan.platform, plan.config.workers.executor)
    search_with_display(run, begin, OutputOptions(top, json_, quiet))


def _refuse_stray_options(context: typer.Context) -> None:
    """Refuse options of the search that are written before a subcommand, which would ignore them."""
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if value is not None and source is not None and source.name == "COMMANDLINE" and name != "debug":
            option = "--" + name.strip("_").replace("_", "-")
            command = context.invoked_subcommand
            raise UsageError(
                f"{option} before `{command}` is an option of the search and has no effect: write it after `{command}`"
            )


def _print_error(sentence: str, code: int) -> int:
    print(f"primer-search: {one_line(sentence)}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
