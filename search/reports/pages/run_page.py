"""Report of a run: one HTML page that needs neither a network nor other files.

Numbers and sentences are those of the console. The template `report.html.j2` escapes all values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....primitives.differences.diff_printer import format_difference
from ....primitives.errors import UsageError
from ....primitives.programs.pretty_printer import format_program
from ....system.files import write_output
from ....system.plurals import pluralize
from ...evolution.candidate import BASELINE_ID, candidate_name
from ...results.leaderboard import leaderboard, leading_candidate
from ...results.leaderboard_rows import Leaderboard, LeaderboardRow
from ...results.lineage import lineage_start
from ...results.scale_ladder import Ladder
from ...runs.time_accounting import SHARES
from ..candidate_details import format_merge, format_mutations, format_step
from ..figures.prediction_figure import prediction_figure
from ..figures.program_drawing import draw_program
from ..figures.run_figure import progress_figure
from ..figures.training_points import training_points
from ..formatting import LOSS_UNITS, format_number
from ..phrases import (
    UNCONFIRMED,
    beyond_noise,
    format_baseline_row,
    format_input_wait,
    headline,
    run_conditions,
    run_facts,
    search_leader,
)
from ..tables.leaderboard_table import confirmation_cells, leaderboard_cells
from ..tables.prediction_table import format_stop, stopped_cells
from ..tables.scale_table import format_scale_result, ladder_notes
from .page import template, try_page

if TYPE_CHECKING:
    from ...runs.store import Store

__all__ = ["render_report", "try_report", "write_report"]

TOP = 15
"""Number of best candidates whose programs are shown."""

ROWS = 100
"""Number of rows of the leaderboard; the run store has all."""


def write_report(store: Store, path: Path) -> None:
    """Write the report of a run to a file, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    if not path.name or path.is_dir():
        raise UsageError(f"cannot write the report {path}: it is a folder; name a file in it with -o")
    if path.exists() and path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} exists and is not an .html page; choose another file with -o")
    write_output(path, render_report(store))


def try_report(store: Store) -> str:
    """Write the report into the run's folder and return its path, or the reason why it was not written."""
    return try_page(store.run.report, lambda page: write_report(store, page))


def render_report(store: Store) -> str:
    """Return the report as HTML text."""
    with store.snapshot():
        board, manifest, points = leaderboard(store), store.manifest, training_points(store)
        programs = _programs(store, board)
    totals, priced = board.totals, any(row.price is not None for row in board.confirmed)
    conditions = run_conditions(manifest)
    return template("report.html.j2").render(
        run=store.run.path.name,
        started=conditions.pop("started"),
        headline=headline(board),
        found=any(row.better for row in board.confirmed)
        or (not board.confirmed and any(map(beyond_noise, board.rows))),
        leader=search_leader(board),
        unconfirmed="" if board.confirmed else UNCONFIRMED,
        confirmed=[
            (
                "baseline" if row.candidate_id == BASELINE_ID else "better" if row.better else "",
                confirmation_cells(row, priced, board.loss_unit),
            )
            for row in board.confirmed
        ],
        priced=priced,
        unit=LOSS_UNITS[board.loss_unit],
        ladder=board.ladder and _ladder_cells(board.ladder),
        figure=progress_figure(points, board.baseline),
        tiles=_tiles(board, manifest),
        rows=[_page_row(row, board) for row in board.rows[:ROWS]],
        equal_time=any(row.equal_time_delta_nats is not None for row in board.rows),
        shown={program["anchor"] for program in programs},
        left_out=max(len(board.rows) - ROWS, 0),
        predictions=_predictions(board),
        programs=programs,
        results=[(name, text) for name, text in run_facts(board) if name not in ("wall clock", "predictions")],
        shares=[(name, share, SHARES[name]) for name, share in totals.shares.items()],
        sections=manifest.get("config", {}),
        facts=[
            *conditions.items(),
            ("trials", f"{totals.trials} finished, {totals.lost} lost, {totals.cancelled} cancelled"),
            ("proposals reused", f"{totals.reused}"),
        ],
        versions=manifest.get("versions", {}),
    )


def _tiles(board: Leaderboard, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    totals, workers = board.totals, int(manifest.get("workers") or 1)
    full = totals.outcomes.get("ok", 0)
    return [
        (f"{totals.candidates:,}", "candidates proposed"),
        (f"{totals.evaluated:,}", "evaluated"),
        (f"{full:,}", "trained in full"),
        (f"{totals.elapsed_seconds / 60:.1f} min", f"of search on {pluralize(workers, 'worker')}"),
        (f"{totals.shares['training']:.0%}", "of the workers' time spent training"),
    ]


def _page_row(row: LeaderboardRow, board: Leaderboard) -> dict[str, Any]:
    """Return one row of the leaderboard; `standing` selects its color."""
    baseline = row.id == BASELINE_ID
    standing = "baseline" if baseline else "better" if beyond_noise(row) else "inside" if row.inside_noise else ""
    return {
        "cells": leaderboard_cells(row),
        "anchor": f"candidate-{row.id}",
        "standing": standing if row.rank is not None else "unranked",
        "verdict": row.verdict,
        "waiting": format_input_wait(row.input_wait_share),
        "mutations": format_baseline_row(board.initial_programs) if baseline else _mutation_cell(row),
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


def _predictions(board: Leaderboard) -> dict[str, Any] | None:
    predictions = board.predictions
    return predictions and {
        "figure": prediction_figure(predictions.checked),
        "stops": [f"{words[:1].upper()}{words[1:]}." for words in map(format_stop, predictions.stops)],
        "stopped": [stopped_cells(each) for each in reversed(predictions.stopped)],
    }


def _mutation_cell(row: LeaderboardRow) -> str:
    return format_mutations(row.lineage, 2 if row.rank is not None else 1)


def _programs(store: Store, board: Leaderboard) -> list[dict[str, Any]]:
    """Return the programs of the best candidates, with their differences to the baseline."""
    baseline = store.candidate(BASELINE_ID).dna
    first, verdicts = leading_candidate(board), {row.candidate_id: row.verdict for row in board.confirmed}
    ranked = [row for row in board.rows if row.rank is not None and row.id != BASELINE_ID]
    shown: Sequence[LeaderboardRow] = sorted(ranked, key=lambda row: row.id != first)[:TOP]
    programs: list[dict[str, Any]] = [
        {
            "id": "baseline",
            "anchor": "candidate-0",
            "title": format_baseline_row(board.initial_programs),
            "listing": format_program(baseline),
            "graph": "",
        }
    ]
    for row in shown:
        dna = store.candidate(row.id).dna
        title = f"Program of {candidate_name(row.id)}, differences from the baseline marked"
        programs.append(
            {
                "id": f"#{row.id}",
                "anchor": f"candidate-{row.id}",
                "title": f"{format_number(row.loss_nats)} nats, {verdicts.get(row.id, row.verdict)}",
                "listing": format_program(dna),
                "graph": draw_program(dna, baseline, title=title) if row is shown[0] else "",
                "difference": [(line[:1], line) for line in format_difference(baseline, dna).splitlines()],
                "beginning": lineage_start(row.lineage, board.initial_programs),
                "merged": format_merge(row.lineage),
                "lineage": [(format_step(step), step.mutations) for step in row.lineage],
            }
        )
    return programs
