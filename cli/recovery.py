"""The commands `repair` and `clean`. They only parse options and print."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from ..primitives.errors import WorkFailedError
from ..system.standard_streams import print_line
from .options import Json, Run, print_json, say

__all__ = ["register"]

SHOWN = 10
"""Largest number of findings, and of lost candidates, that are printed."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (repair, clean):
        app.command()(command)


def repair(
    run: Run,
    check: Annotated[
        bool, typer.Option("--check", help="Only print what is wrong; exit code 1 if something is.")
    ] = False,
    json_: Json = False,
) -> None:
    """Recover what a damaged run still holds, and keep the damaged files.

    Programs and results that can be read are kept; what is lost is trained again when the run is resumed.
    """
    from ..search.recovery.repair import check_run
    from ..search.recovery.repair import repair as repair_run
    from ..search.runs.run_directory import find_run

    directory = find_run(run)
    if check:
        findings = check_run(directory.path)
        if json_:
            print_json({"run": str(directory.path), "findings": findings})
        elif not findings:
            print_line(f"run {directory.path} is consistent")
        if findings:
            raise WorkFailedError(f"run {directory.path} is damaged: {_some(findings, '; ')}")
        return
    done = repair_run(directory.path)
    lost = done.losses
    if json_:
        facts: dict[str, Any] = {
            "run": str(directory.path),
            "findings": done.findings,
            "candidates": done.candidates,
            "results": done.results,
            "lost_candidates": lost.candidates,
            "lost_trials": lost.trials,
            "lost_events": len(lost.events),
            "damaged": None if done.damaged is None else str(done.damaged),
        }
        print_json(facts)
    elif not done.findings:
        print_line(f"run {directory.path} is consistent: nothing to repair")
    else:
        print_line(f"run {directory.path} is repaired: it has {done.candidates} candidates and {done.results} results")
        print_line(f"lost     {_lost(lost.candidates, lost.trials, len(lost.events))}")
        if done.damaged is not None:
            print_line(f"kept     the damaged files, in {done.damaged}")
        print_line(f"next     primer-search resume {shlex.quote(str(directory.path))}")


def clean(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Directories of runs, or their names under runs/.", metavar="[RUN...]")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Delete the compiled programs; later trainings compile them again.")
    ] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Delete the prepared texts; a running search still needs its text.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the sizes.")] = False,
    json_: Json = False,
) -> None:
    """Show the sizes of runs and of the cache, and delete files that a killed process or a repair left in the runs.

    Without RUN and options, the command deletes nothing.
    """
    from ..search.recovery.clean import CACHE, cache_parts, delete, run_parts
    from ..search.runs.run_directory import find_run

    asked = {CACHE[name] for name, wanted in (("compiled", cache), ("data", texts)) if wanted}
    groups = [(run, run_parts(run)) for run in map(find_run, dict.fromkeys(runs or ()))]
    shown = []
    for run, parts in [*groups, (None, cache_parts())]:
        for part in parts:
            deleted = not dry_run and part.removable and (run is not None or part.name in asked)
            if deleted:
                delete(part, run)
            shown.append((str(run.path) if run else "cache", part.name, part.size_bytes, deleted))
    if json_:
        print_json({"parts": [dict(zip(("where", "what", "bytes", "deleted"), row, strict=True)) for row in shown]})
        return
    for where, what, size, deleted in shown:
        print_line(f"{where:<30} {size / 2**20:>10,.1f} MiB  {what}{' (deleted)' if deleted else ''}")
    if not shown:
        say("nothing to show: there is no cache, and no run was named")


def _lost(candidates: list[int], trials: list[int], events: int) -> str:
    words = []
    if candidates:
        words.append(f"{len(candidates)} candidates ({_some([f'#{number}' for number in candidates])})")
    if trials:
        words.append(f"the results of {len(trials)} trials, which will be repeated")
    if events:
        words.append(f"{events} events")
    return ", ".join(words) or "nothing"


def _some(items: list[str], separator: str = ", ") -> str:
    more = len(items) - SHOWN
    return separator.join(items[:SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
