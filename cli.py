"""The command `primer-search`: parsing and printing; what it does lives in the packages below.

Nothing heavy is imported before a command needs it, so that `--help` answers at once. Exit codes: 0 done, 1 the work
failed, 2 wrong usage, configuration or data (one sentence), 130 interrupted (state saved).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from .primitives.errors import PrimerSearchError, UsageError

if TYPE_CHECKING:
    from .configs.plan import Plan
    from .search.run_directory import RunDirectory
    from .search.session import Session

__all__ = ["app", "main"]

app = typer.Typer(
    name="primer-search",
    help="Search for better decoder blocks for language models, on real text, within a budget of wall clock.",
    epilog="Durations read 90s, 10m, 24h, 7d. Every command that prints a table takes --json.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
data_app = typer.Typer(help="Prepare text for training.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

Run = Annotated[str, typer.Argument(help="A run: its directory, or its name under runs/.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Budget = Annotated[str, typer.Option(help="Wall clock of the whole search.", metavar="DURATION")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster: host:port, or auto.", metavar="RAY")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; every error is one line on stderr.

    Args:
        arguments: of the command line, without the program's name; `sys.argv` if not given.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=arguments, prog_name="primer-search", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PrimerSearchError as error:
        return _complain(str(error), error.exit_code)
    except TyperException as error:
        return _complain(_usage_sentence(error), 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader left; nothing may be written at exit either
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence, and the traceback on request
        if os.environ.get("PRIMER_SEARCH_DEBUG") or "--debug" in arguments:
            raise
        kind = type(error).__name__
        return _complain(f"{kind}: {_one_line(str(error))} (a fault of ours; PRIMER_SEARCH_DEBUG=1 shows where)", 1)


@app.callback()
def search(
    context: typer.Context,
    budget: Budget = "10m",
    trial_budget: Annotated[
        str | None,
        typer.Option(help="Training time of each candidate's full trial [the preset's].", metavar="DURATION"),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="A preset or a .toml file [by accelerator: laptop, gpu or tpu].", metavar="PRESET|FILE"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting; repeatable.", metavar="SECTION.KEY=VALUE")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="python-stdlib, or text:PATH of UTF-8 text.", metavar="SOURCE")
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where the run goes [runs/...].", metavar="DIR")] = None,
    workers: Annotated[int | None, typer.Option(help="How many train at once; 0: one a core or device.")] = None,
    seed: Annotated[int, typer.Option(help="Source of the search's randomness.", min=0)] = 0,
    address: Address = None,
    executor: Annotated[str | None, typer.Option(help="ray, or inline (in this process).", metavar="NAME")] = None,
    accel: Annotated[str | None, typer.Option(help="auto, cpu, gpu or tpu.", metavar="NAME")] = None,
    top: Annotated[int, typer.Option(help="Rows of the leaderboard at the end.", min=1)] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and train nothing.")] = False,
    json_: Json = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Search for better decoder blocks within a budget of wall clock, starting from the Transformer."""
    started_at = time.monotonic()
    if context.invoked_subcommand is not None:
        _refuse_stray_options(context)
        return
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"primer-search {version_of('primer-search')}")
        return
    from .configs.plan import make_plan

    plan = make_plan(
        budget=budget,
        trial_budget=trial_budget,
        config=config,
        overrides=set_ or (),
        data=data,
        workers=workers,
        executor=executor,
        accel=accel,
    )
    if dry_run:
        _print_plan(plan, seed, run_dir, json_)
        return
    for note in plan.notes:
        _say(note)
    _check_sources(plan)
    from datetime import datetime

    from .search.run_directory import create_run_directory, new_run_directory

    run = new_run_directory(seed, datetime.now()) if run_dir is None else create_run_directory(run_dir)
    _say(f"run {run.path}: {plan.preset}, {budget} of search, seed {seed}")

    def begin(**hooks: Any) -> Session:
        from .search.session import start

        return start(
            plan.config,
            run,
            seed=seed,
            budget_seconds=plan.budget_seconds,
            address=address,
            started_at=started_at,
            **hooks,
        )

    raise typer.Exit(_conduct(run, begin, plan.platform, plan.config.workers.executor, top, json_))


@app.command()
def resume(
    run: Run,
    budget: Annotated[
        str | None, typer.Option(help="More wall clock [what is left of the run's].", metavar="DURATION")
    ] = None,
    address: Address = None,
    top: Annotated[int, typer.Option(help="Rows of the leaderboard at the end.", min=1)] = 10,
    json_: Json = False,
) -> None:
    """Take a run up where it stopped."""
    started_at = time.monotonic()
    from .configs import parse_duration
    from .search.store import Store
    from .workers.accelerators import resolve_platform

    seconds = None if budget is None else parse_duration(budget)
    with Store.open(run, read_only=True) as store:
        directory, workers = store.run, store.manifest["config"]["workers"]

    def go_on(**hooks: Any) -> Session:
        from .search.session import resume as resume_session

        return resume_session(directory.path, budget_seconds=seconds, address=address, started_at=started_at, **hooks)

    platform = resolve_platform(workers["accel"])
    raise typer.Exit(_conduct(directory, go_on, platform, workers["executor"], top, json_))


# --- conducting a search ----------------------------------------------------------------------------------------


def _conduct(
    run: RunDirectory, session: Callable[..., Session], platform: str, executor: str, top: int, as_json: bool
) -> int:
    """Search with a display, then print what came of it."""
    from .search.console import make_display
    from .search.run_log import hushed, log_traceback

    if platform == "cpu" and executor == "inline":
        os.environ["JAX_PLATFORMS"] = "cpu"  # read when JAX is first imported, in this process
    try:
        with _terminations_interrupt(), hushed(run.log) as terminal, make_display(terminal) as display:
            ended = session(observe=display.observe, tell=display.tell)
    except BaseException as error:
        _remove_unborn(run)
        named = shlex.quote(str(run.path))
        if isinstance(error, KeyboardInterrupt):
            if not run.store.exists():
                return _complain("interrupted before the search began: nothing was kept", 130)
            return _complain(f"interrupted, and all results are saved: go on with `primer-search resume {named}`", 130)
        if isinstance(error, PrimerSearchError) or not run.store.exists() or not log_traceback(run.log, error):
            raise
        if os.environ.get("PRIMER_SEARCH_DEBUG"):
            raise
        kind = type(error).__name__
        return _complain(f"the search broke off with {kind}: {_one_line(str(error))} (traceback in {run.log})", 1)
    _print_end(run, ended.ending, top, as_json)
    return 0


def _print_end(run: RunDirectory, ending: str, top: int, as_json: bool) -> None:
    from .search.leaderboard import leaderboard
    from .search.store import Store
    from .search.tables import console_for, next_commands, print_leaderboard

    with Store.open(run.path, read_only=True) as store:
        board = leaderboard(store)
        _write_report(store, run.report)
    if as_json:
        _print_json(board.to_dict())
        return
    console = console_for(sys.stdout)
    why = "stopped as asked" if ending == "stopped" else "the budget is spent"
    console.print(f"run {run.path}: {why}\n", soft_wrap=True)
    print_leaderboard(board, console, top)
    console.print(f"\nreport: {run.report}\nnext:", soft_wrap=True)
    for command in next_commands(run.path, board):
        console.print(f"  {command}", soft_wrap=True)


def _write_report(store: Any, path: Path) -> None:
    with suppress(ImportError):
        from .search.report import write_report

        write_report(store, path)


@contextmanager
def _terminations_interrupt() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone may set handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _remove_unborn(run: RunDirectory) -> None:
    """A run that never got a store leaves nothing behind but a log that says something."""
    if run.store.exists():
        return
    with suppress(OSError):
        run.lock.unlink(missing_ok=True)
        run.log.unlink(missing_ok=True)
        run.path.rmdir()


def _check_sources(plan: Plan) -> None:
    """Refuse at once what `start` would refuse only after a directory was made."""
    from .primitives.library import get
    from .workers.sources import documents

    get(plan.config.search.seed_program, plan.config.model.unit)
    documents(plan.config.data.source)


def _print_plan(plan: Plan, seed: int, run_dir: Path | None, as_json: bool) -> None:
    from .configs import format_duration
    from .search.hurdles import hurdle_positions
    from .search.run_directory import RUNS

    _check_sources(plan)
    config, trial = plan.config, plan.config.trial
    slots = config.workers.count or (len(_cores()) if plan.platform == "cpu" else 1)
    if as_json:
        _print_json({**plan.to_dict(slots), "seed": seed, "run_dir": str(run_dir) if run_dir else None})
        return
    unit = {"cpu_seconds": "of the worker's CPU time", "wall_seconds": "of wall clock", "steps": "steps"}[trial.unit]
    show = (lambda value: f"{value:.1f}") if trial.unit == "steps" else format_duration
    hurdles = ", ".join(show(at) for at in hurdle_positions(trial.budget, trial.hurdles)) or "none"
    expected = plan.candidates_expected(slots)
    facts = {
        "preset": plan.preset,
        "budget": format_duration(plan.budget_seconds),
        "platform": plan.platform,
        "workers": f"{slots} ({config.workers.executor})",
        "trial budget": f"{trial.budget_steps} steps" if trial.unit == "steps" else f"{show(trial.budget)} {unit}",
        "hurdles": f"at {hurdles}" if trial.hurdles else "none",
        "data": config.data.source,
        "seed program": config.search.seed_program,
        "candidates": "not estimated: the budget counts steps" if expected is None else f"about {expected}",
        "run": str(run_dir or RUNS / f"<time>-seed{seed}"),
    }
    for note in plan.notes:
        _say(note)
    for name, value in facts.items():
        typer.echo(f"{name:<13} {value}")


def _cores() -> Sequence[int]:
    from .workers.processor import usable_cores

    return usable_cores()


# --- errors and output ------------------------------------------------------------------------------------------


def _refuse_stray_options(context: typer.Context) -> None:
    """Options of the search before a subcommand would be ignored: say so instead."""
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if value is not None and source is not None and source.name == "COMMANDLINE" and name != "debug":
            option = "--" + name.strip("_").replace("_", "-")
            command = context.invoked_subcommand
            raise UsageError(
                f"{option} stands before `{command}` and belongs to the search: write it after, if it takes it"
            )


def _usage_sentence(error: TyperException) -> str:
    """A parser's complaint as one sentence, with the nearest right word."""
    from difflib import get_close_matches

    message = _one_line(error.format_message() if hasattr(error, "format_message") else str(error)).rstrip(".")
    if near := getattr(error, "possibilities", None):  # of an option that does not exist
        message = f"{message.partition(' (')[0]}; did you mean {near[0]}?"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "primer-search"
    if message.startswith("No such command"):
        word = message.split("'")[1] if "'" in message else ""
        names = [command.name or "" for command in (*app.registered_commands, *app.registered_groups)]
        near = get_close_matches(word, [name for name in names if name], n=1)
        message = f"there is no command {word!r}" + (f"; did you mean {near[0]}?" if near else "")
        return f"{message} (`{path} --help` lists them)"
    return f"{message[:1].lower()}{message[1:]} (`{path} --help` says how)"


def _complain(sentence: str, code: int) -> int:
    print(f"primer-search: {sentence}", file=sys.stderr, flush=True)
    return code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False, ensure_ascii=False))


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
