"""The leaderboard of a run, sorted, filtered and in pages, with the Pareto front of loss against a cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...primitives.errors import UsageError
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..reports.candidate_details import format_mutations
from ..reports.figures.training_points import Point, loss_range
from ..reports.phrases import beyond_noise, format_baseline_row
from ..reports.tables.leaderboard_table import leaderboard_cells
from ..results.digest.pareto_front import COSTS, FrontPoint, known_costs, pareto_front
from ..results.digest.row_query import SORTS, STATUSES, RowQuery, select_rows
from ..results.digest.run_digest import RunDigest
from ..results.leaderboard_rows import LeaderboardRow
from .rendering import render
from .requests import Request, Response, Route, json_response

__all__ = ["routes"]

_PAGE_ROWS = 50
_LAST_PAGE = 10**6
_LONGEST_TEXT = 100
_FRONT_MARKS = 800
_EDITS = 2
"""Number of edits shown of each candidate, newest first."""

_STATUS_WORDS = {
    "all": "all with a result",
    "full": "trained in full",
    "stopped": "stopped at a hurdle",
    "failed": "failed or unstable",
}
_COST_WORDS = {"step": "step time, ms", "parameters": "parameters", "memory": "peak memory, MiB"}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: title, key of its cell in `leaderboard_cells`, sort order that its title links to, and small print."""

    title: str
    cell: str
    sort: str
    small: str = ""


_COLUMNS = (
    _Column("rank", "rank", "rank"),
    _Column("id", "id", "id"),
    _Column("loss", "loss nats", "loss", "nats per token"),
    _Column("bits/byte", "bits/byte", "bits"),
    _Column("vs baseline", "vs baseline", "difference", "bits/byte"),
    _Column("equal time", "equal time", "", "bits/byte"),
    _Column("noise", "noise", "", "multiples"),
    _Column("step", "step ms", "step", "ms"),
    _Column("speed", "speed", "speed"),
    _Column("parameters", "parameters", "parameters"),
)


def routes() -> list[Route]:
    """Return the leaderboard of each run, and its figure."""
    return [Route("/runs/{run}/leaderboard", _leaderboard), Route("/runs/{run}/front.json", _front)]


def _leaderboard(request: Request) -> Response:
    query, page = _query(request)
    with request.run.digest() as (digest, store):
        costs = known_costs(digest.table)
        cost = request.choice("cost", COSTS, costs[0] if costs else "step")
        found = select_rows(digest.table, query, digest.baseline)
        rows = digest.rows(store, found.ids, _EDITS)
        front = [point for point in pareto_front(digest.table, cost, 0) if point.front]
        values: dict[str, Any] = {
            "rows": [_row(row, digest) for row in rows],
            "columns": [column for column in _COLUMNS if column.cell != "equal time" or digest.priced],
            "front": [_front_cells(point, cost) for point in front],
            "read": digest.share_read(store),
            "priced": digest.priced,
        }
    pages = max(-(-found.total // _PAGE_ROWS), 1)
    return render(
        request,
        "leaderboard.html.j2",
        "Leaderboard",
        query=query,
        page=page,
        page_count=pages,
        total=found.total,
        first=query.offset + 1,
        statuses=_STATUS_WORDS,
        costs={name: _COST_WORDS[name] for name in costs},
        cost=cost,
        cost_words=_COST_WORDS[cost],
        **values,
    )


def _front(request: Request) -> Response:
    cost = request.choice("cost", COSTS, "step")
    with request.run.digest() as (digest, _):
        points = pareto_front(digest.table, cost, _FRONT_MARKS)
    return json_response(_front_figure(points, cost))


def _query(request: Request) -> tuple[RowQuery, int]:
    """Return the selection of rows that the URL describes, and the number of the page."""
    page = request.number("page", 1, 1, _LAST_PAGE)
    text = request.query.get("text", "").strip()
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"text in the address has {len(text)} characters: give at most {_LONGEST_TEXT}")
    step = request.query.get("step_ms", "").strip()
    try:
        longest = float(step) if step else None
    except ValueError:
        longest = -1.0
    if longest is not None and not 0.0 <= longest < 1e12:
        raise UsageError(f"step_ms={step[:40]} in the address: give a number of milliseconds")
    parameters = request.number("parameters", 0, 0, 10**15)
    query = RowQuery(
        sort=request.choice("sort", SORTS, "rank"),
        reverse=request.choice("order", ("usual", "reverse"), "usual") == "reverse",
        status=request.choice("status", STATUSES, "all"),
        text=text,
        better=request.choice("better", ("", "1"), "") == "1",
        most_parameters=parameters or None,
        longest_step_ms=longest,
        offset=(page - 1) * _PAGE_ROWS,
        limit=_PAGE_ROWS,
    )
    return query, page


def _row(row: LeaderboardRow, digest: RunDigest) -> dict[str, Any]:
    baseline, better = row.id == BASELINE_ID, beyond_noise(row) and row.rank is not None
    standing = "baseline" if baseline else "better" if better else "ranked" if row.rank is not None else "unranked"
    hidden = digest.ancestry.edit_count(row.id) - min(len(row.lineage), _EDITS)
    edits = format_mutations(row.lineage[-_EDITS:]) + (f"; … {hidden} more" if hidden else "")
    return {
        "id": row.id,
        "cells": leaderboard_cells(row),
        "standing": standing,
        "verdict": row.verdict,
        "confirmed": not row.unconfirmed,
        "edits": format_baseline_row(digest.initial_programs) if baseline else edits,
    }


def _cost(point: FrontPoint, cost: str) -> float:
    return point.cost / 2**20 if cost == "memory" else point.cost


def _front_cells(point: FrontPoint, cost: str) -> tuple[int, str, str]:
    return point.candidate_id, f"{_cost(point, cost):,.{1 if cost == 'step' else 0}f}", f"{point.loss_nats:.4f}"


def _front_figure(points: list[FrontPoint], cost: str) -> dict[str, Any]:
    """Return all candidates as small circles, and the front as a line with marks."""
    front = [point for point in points if point.front]
    others = [point for point in points if not point.front]

    def trace(shown: list[FrontPoint], name: str, **style: Any) -> dict[str, Any]:
        return {
            "type": "scatter",
            "name": name,
            "x": [_cost(point, cost) for point in shown],
            "y": [point.loss_nats for point in shown],
            "text": [candidate_name(point.candidate_id) for point in shown],
            "customdata": [point.candidate_id for point in shown],
            "hovertemplate": "%{text}: %{y:.4f} nats at %{x:,.6~g}<extra></extra>",
            **style,
        }

    gray = {"symbol": "circle-open", "size": 6, "color": "var(--gray)", "line": {"color": "var(--gray)"}}
    blue = {"symbol": "diamond", "size": 9, "color": "var(--blue)"}
    line = {"shape": "hv", "width": 1.5, "color": "var(--blue)", "dash": "dot"}
    return {
        "data": [
            trace(others, "other candidates", mode="markers", marker=gray),
            trace(front, "Pareto front", mode="lines+markers", marker=blue, line=line),
        ],
        "layout": {
            "xaxis": {"title": {"text": _COST_WORDS[cost]}, "tickformat": ",~g"},
            "yaxis": {
                "title": {"text": "validation loss, nats per token"},
                "tickformat": ".2f",
                "range": loss_range(
                    [Point(0.0, point.candidate_id, point.loss_nats, None) for point in points], (), ()
                ),
            },
        },
    }
