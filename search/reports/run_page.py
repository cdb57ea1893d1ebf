"""The report of a run: one self-contained HTML page, readable without a network and without a style sheet elsewhere.

Numbers and sentences come from `leaderboard` and `wording`, as on the console; the page is `report.html.j2`, with
everything that came from outside escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...primitives.diff_printer import format_difference
from ...primitives.errors import UsageError
from ...primitives.pretty_printer import format_program
from ...system.files import write_output
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.confirmation import Confirmation
from ..results.leaderboard import leaderboard
from ..results.leaderboard_rows import Leaderboard, LeaderboardRow
from ..results.lineage import lineage_start
from ..results.scale_ladder import Ladder
from ..runs.time_accounting import SHARES, active_seconds, find_sessions
from .figures.run_figure import Point, progress_figure
from .page import template, try_page
from .phrases import (
    UNCONFIRMED,
    beyond_noise,
    count,
    format_baseline,
    format_baseline_row,
    format_checks,
    format_confirmed_difference,
    format_cost,
    format_epochs,
    format_initial_programs,
    format_input_wait,
    format_lineage,
    format_proposals,
    headline,
    number,
)
from .progress.search_progress import format_outcomes
from .scale_table import format_scale_result, ladder_notes

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = ["render_report", "try_report", "write_report"]

TOP = 15
"""Candidates whose programs are shown."""

ROWS = 100
"""Rows of the leaderboard; the run store has all."""


def write_report(store: Store, path: Path) -> None:
    """Write the report of a run to a file, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    if not path.name or path.is_dir():
        raise UsageError(f"cannot write the report {path}: it is a folder; name a file in it with -o.")
    if path.exists() and path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} exists and is no .html page: choose another place with -o.")
    page = render_report(store)
    write_output(path, page)


def try_report(store: Store) -> str:
    """Write a run's report in its place; the place, or why there is none: no reason to withhold results."""
    return try_page(store.run.report, lambda page: write_report(store, page))


def render_report(store: Store) -> str:
    """The report as HTML text."""
    with store.snapshot():
        board, manifest, points = leaderboard(store), store.manifest, _points(store)
        programs = _programs(store, board)
    totals = board.totals
    return template("report.html.j2").render(
        run=store.run.path.name,
        started=datetime.fromtimestamp(manifest.get("started_at", 0)).strftime("%Y-%m-%d %H:%M"),
        headline=headline(board),
        found=any(row.better for row in board.confirmed)
        if board.confirmed
        else any(beyond_noise(row) for row in board.rows),
        unconfirmed="" if board.confirmed else UNCONFIRMED,
        confirmed=[_confirmed_cells(row) for row in board.confirmed],
        ladder=board.ladder and _ladder_cells(board.ladder),
        checks=format_checks(totals.checks),
        cost=format_cost(totals),
        text=format_epochs(board.rows),
        figure=progress_figure(points, board.baseline),
        tiles=_tiles(board, manifest),
        rows=[_cells(row, board) for row in board.rows[:ROWS]],
        shown={program["anchor"] for program in programs},
        left_out=max(len(board.rows) - ROWS, 0),
        programs=programs,
        outcomes=format_outcomes(totals.outcomes),
        proposals=format_proposals(totals.proposals),
        shares=[(name, share, SHARES[name]) for name, share in totals.shares.items()],
        sections=manifest.get("config", {}),
        facts=_facts(manifest, board),
        versions=manifest.get("versions", {}),
    )


def _points(store: Store) -> list[Point]:
    """Every training that gave a loss, when it arrived."""
    sessions = find_sessions(store.events())
    points = []
    for trial in store.evaluations():
        result = trial.evaluation
        stopped = result.kind == "stopped_at_hurdle"
        loss = result.hurdle_losses[-1] if stopped and result.hurdle_losses else result.loss_nats
        if loss is not None and result.kind in ("ok", "stopped_at_hurdle"):
            at = active_seconds(sessions, trial.sequence, trial.wall_time)
            points.append(Point(at / 60.0, trial.candidate_id, loss, len(result.hurdle_losses) if stopped else None))
    return points


def _tiles(board: Leaderboard, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    totals, workers = board.totals, int(manifest.get("workers") or 1)
    full = totals.outcomes.get("ok", 0)
    return [
        (f"{totals.candidates:,}", "candidates proposed"),
        (f"{totals.evaluated:,}", "evaluated"),
        (f"{full:,}", "trained in full"),
        (f"{totals.elapsed_seconds / 60:.1f} min", f"of search on {workers} worker{'s' if workers != 1 else ''}"),
        (f"{totals.shares['training']:.0%}", "of the workers' time spent training"),
    ]


def _cells(row: LeaderboardRow, board: Leaderboard) -> dict[str, Any]:
    """One row of the leaderboard as text; `standing` picks its colour."""
    baseline = row.id == BASELINE_ID
    standing = "baseline" if baseline else "better" if beyond_noise(row) else "inside" if row.inside_noise else ""
    loss = row.hurdle_loss_nats if row.loss_nats is None else row.loss_nats
    return {
        "id": candidate_name(row.id),
        "anchor": f"candidate-{row.id}",
        "standing": standing if row.rank is not None else "unranked",
        "verdict": row.verdict,
        "rank": number(row.rank, "d"),
        "loss": number(loss),
        "bits": number(row.bits_per_byte),
        "delta": "–" if baseline else number(row.delta_bits_per_byte, "+.4f"),
        "noise": "–" if baseline else "inside" if row.inside_noise else number(row.noise_multiple, "+.1f"),
        "step": number(row.step_ms, ".1f"),
        "waiting": format_input_wait(row.input_wait_share),
        "speed": "–" if row.speed is None else f"{row.speed:.2f}×",
        "parameters": count(row.parameters),
        "mutations": format_baseline_row(board.initial_programs) if baseline else _mutation_cell(row),
        "outcome": row.outcome if row.rank is None else "",
    }


def _confirmed_cells(row: Confirmation) -> dict[str, Any]:
    baseline = row.candidate_id == BASELINE_ID
    return {
        "standing": "baseline" if baseline else "better" if row.better else "",
        "rank": number(row.rank, "d"),
        "name": row.name,
        "trainings": f"{row.trainings - row.failed} of {row.trainings}",
        "loss": number(row.test_loss_nats),
        "bits": number(row.test_bits_per_byte),
        "difference": "–" if baseline else format_confirmed_difference(row).replace(" bits/byte", ""),
        "verdict": row.verdict,
    }


def _ladder_cells(ladder: Ladder) -> dict[str, Any]:
    rows = [
        {
            "name": name,
            "standing": "baseline" if name == "baseline" else "better" if name in ladder.better_everywhere else "",
            "cells": [format_scale_result(ladder.at(place, name)) for place in range(len(ladder.scales))],
        }
        for name in ladder.names
    ]
    return {"scales": ladder.labels, "rows": rows, "notes": ladder_notes(ladder)}


def _mutation_cell(row: LeaderboardRow) -> str:
    words, shown = format_lineage(row.lineage), 2 if row.rank is not None else 1
    more = f"; … {len(words) - shown} more" if len(words) > shown else ""
    return "; ".join(words[:shown]) + more


def _programs(store: Store, board: Leaderboard) -> list[dict[str, Any]]:
    """The best candidates' programs, each beside the baseline's."""
    baseline = store.candidate(BASELINE_ID).dna
    shown: Sequence[LeaderboardRow] = [row for row in board.rows if row.rank is not None and row.id != BASELINE_ID][
        :TOP
    ]
    programs: list[dict[str, Any]] = [
        {
            "id": "baseline",
            "anchor": "candidate-0",
            "title": format_baseline_row(board.initial_programs),
            "listing": format_program(baseline),
        }
    ]
    for row in shown:
        dna = store.candidate(row.id).dna
        programs.append(
            {
                "id": f"#{row.id}",
                "anchor": f"candidate-{row.id}",
                "title": f"{number(row.loss_nats)} nats, {row.verdict}",
                "listing": format_program(dna),
                "difference": [(line[:1], line) for line in format_difference(baseline, dna).splitlines()],
                "beginning": lineage_start(row.lineage, board.initial_programs),
                "lineage": [(candidate_name(step.candidate_id), step.mutations) for step in row.lineage],
            }
        )
    return programs


def _source(manifest: dict[str, Any]) -> str:
    return manifest.get("config", {}).get("data", {}).get("source", "?")


def _facts(manifest: dict[str, Any], board: Leaderboard) -> list[tuple[str, str]]:
    return [
        ("random seed", str(manifest.get("seed", "?"))),
        ("budget", f"{manifest.get('budget_seconds', 0):,.0f} s of wall clock"),
        ("the baseline", format_baseline(board.baseline)),
        *([("initial programs", format_initial_programs(board.initial_programs))] if board.initial_programs else []),
        ("data", f"{_source(manifest)} (hash {str(manifest.get('dataset_hash', '?'))[:16]})"),
        ("workers", str(manifest.get("workers", "?"))),
        ("machine", str(manifest.get("machine", "?"))),
        ("trials", f"{board.totals.trials} finished, {board.totals.lost} lost, {board.totals.cancelled} given up"),
        ("proposals reused", f"{board.totals.reused}"),
    ]
