"""Commands on one run: resume, stop, leaderboard, show and report. They only parse options and print."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..primitives.errors import UsageError
from ..system.files import STANDARD_OUTPUT
from ..system.standard_streams import print_line
from ..system.user_folders import user_path
from .options import Address, Candidate, Json, Quiet, Run, RunOrName, Top, Track, choose_platform, print_json, say

if TYPE_CHECKING:
    from ..search.sessions.session import SearchResult

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (resume, stop, leaderboard, show, report):
        app.command()(command)


def resume(
    run: Run,
    budget: Annotated[
        str | None,
        typer.Option(help="Further wall-clock time.", metavar="DURATION", show_default="what is left of the run's"),
    ] = None,
    address: Address = None,
    track: Track = None,
    top: Top = 10,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Continue a run where it stopped."""
    started_at = time.monotonic()
    from ..configs.plan import duration
    from ..configs.scale_option import larger_scale
    from ..search.runs.run_settings import load_config
    from ..search.runs.store import Store
    from ..search.sessions.run_search import OutputOptions, search_with_display
    from ..search.tracking.tracker_names import check_trackers
    from ..workers.devices.ray_environment import check_address

    seconds = None if budget is None else duration("--budget", budget)
    with Store.open(run, read_only=True) as store:
        directory, config = store.run, load_config(store)
    workers, larger = config.workers, larger_scale(config)
    if (holder := directory.controller()) is not None:
        raise UsageError(f"run {directory.path} is already running (by {holder}): wait until it ends, or stop it first")
    check_address(address, workers.executor)
    trackers = check_trackers(track or ())

    def continue_run(**hooks: Any) -> SearchResult:
        from ..search.sessions.session import SessionOptions
        from ..search.sessions.session import resume as resume_session

        options = SessionOptions(address, started_at, larger=larger, track=trackers, **hooks)
        return resume_session(directory.path, budget_seconds=seconds, options=options)

    choose_platform(workers.accel, workers.executor, address, quiet, run)
    search_with_display(directory, continue_run, OutputOptions(top, json_, quiet))


def stop(run: Run) -> None:
    """Ask a running search to save its state and stop."""
    from ..search.runs.run_directory import find_run
    from ..search.sessions.run_search import request_stop

    say(request_stop(find_run(run)))


def leaderboard(
    runs: Annotated[
        list[str], typer.Argument(help="Directories of runs, or their names under runs/.", metavar="RUN...")
    ],
    top: Annotated[
        int | None, typer.Option(help="Rows to print.", min=1, metavar="N", show_default="20; with csv and json, all")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Field to sort by, such as loss, vs_baseline, equal_time, price, parameters or id; `-` before it "
            "reverses the order (all fields: docs/leaderboard.md).",
            metavar="FIELD",
            show_default="rank",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help='Only rows that meet a condition, such as "price<1.2 and better"; repeatable.', metavar="CONDITION"
        ),
    ] = None,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Only candidates that were retrained and scored on the test text.")
    ] = False,
    format_: Annotated[
        Literal["table", "csv", "md", "json"], typer.Option("--format", help="Form of the output.")
    ] = "table",
    json_: Json = False,
) -> None:
    """Rank the candidates of a run, finished or still running, or of several runs in one table.

    Each row is compared with the baseline of its own run.
    """
    from ..search.reports.console import console_for
    from ..search.reports.tables.leaderboard_formats import format_csv, format_markdown, leaderboard_json
    from ..search.reports.tables.leaderboard_table import print_leaderboard, shown_rows
    from ..search.reports.tables.run_leaderboards import print_leaderboards
    from ..search.results.leaderboard import leaderboard as ranked
    from ..search.results.selection.selected_rows import Selection, select_rows
    from ..search.runs.store import Store

    selection = Selection(tuple(where or ()), confirmed, sort)
    select_rows([], selection)  # raises an error for a wrong field before anything is read
    boards = []
    for run in dict.fromkeys(runs):
        with Store.open(run, read_only=True) as store:
            boards.append(ranked(store))
    rows = select_rows(boards, selection)
    form = "json" if json_ else format_
    if form in ("table", "md") and not selection.filters:
        rows = shown_rows(rows, top or 20)
    else:
        rows = rows[: (top or 20) if form in ("table", "md") else top]
    if form == "json":
        print_json(leaderboard_json(rows, boards))
    elif form == "csv":
        print_line(format_csv(rows), end="")
    elif form == "md":
        print_line(format_markdown(rows, boards), end="")
    elif len(boards) > 1:
        print_leaderboards(boards, rows, console_for(sys.stdout))
    else:
        print_leaderboard(boards[0], console_for(sys.stdout), rows=rows)


def show(
    run: RunOrName,
    candidate: Candidate = None,
    diff: Annotated[
        str | None,
        typer.Option(
            help="Also show the difference to `parent`, `baseline`, a candidate's number or a library NAME.",
            metavar="WHAT",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Show a candidate of a run, or a library program.

    A candidate is shown with its program, result and ancestry.
    """
    from ..search.reports.candidate_details import print_candidate, print_library_program
    from ..search.reports.console import console_for
    from ..search.results.candidate_summary import summarize_candidate
    from ..search.results.program_reference import library_description
    from ..search.runs.store import Store

    if candidate is None:
        program = library_description(run, diff)
        print_json(program) if json_ else print_library_program(program, console_for(sys.stdout))
        return
    with Store.open(run, read_only=True) as store:
        described = summarize_candidate(store, candidate, diff)
    print_json(described.to_dict()) if json_ else print_candidate(described, console_for(sys.stdout))


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; -: standard output.",
            metavar="FILE",
            show_default="report.html or report.md in the run",
            parser=user_path,
        ),
    ] = None,
    format_: Annotated[
        Literal["html", "md"], typer.Option("--format", help="One self-contained HTML page, or Markdown for a README.")
    ] = "html",
    figures: Annotated[
        Path | None,
        typer.Option(
            help="Also write the figures to this folder, as SVG and PNG; needs matplotlib.",
            metavar="DIR",
            parser=user_path,
        ),
    ] = None,
) -> None:
    """Write the report of a run as one self-contained HTML page, or as Markdown.

    With --figures, the Markdown shows the figures of that folder.
    """
    from ..search.reports.figures.figure_files import write_figures
    from ..search.reports.pages.run_markdown import write_markdown
    from ..search.reports.pages.run_page import write_report
    from ..search.runs.store import Store

    with Store.open(run, read_only=True) as store:
        path = output or (store.run.report if format_ == "html" else store.run.report.with_suffix(".md"))
        written = [] if figures is None else write_figures(store, figures)
        if format_ == "html":
            write_report(store, path)
        else:
            write_markdown(store, path, written)
    if figures is not None:
        say(f"wrote {len(written)} figures to {figures}")
    if path != STANDARD_OUTPUT:
        say(f"wrote {path}")
