"""Kinds of edits and their gains: totals by kind, as a table and a figure."""

from __future__ import annotations

from typing import Any

from ..results.edits.edit_kind_totals import edit_kind_totals
from .rendering import render
from .requests import Request, Response, Route, json_response

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the page of edits of each run, and its figure."""
    return [Route("/runs/{run}/edits", _edits), Route("/runs/{run}/edits.json", _figure)]


def _edits(request: Request) -> Response:
    with request.run.digest() as (digest, store):
        totals, read = edit_kind_totals(digest), digest.share_read(store)
    return render(
        request,
        "edits.html.j2",
        "Edits",
        totals=totals,
        read=read,
        counted=any(each.tried is not None for each in totals),
        height=90 + 30 * len(totals),
    )


def _figure(request: Request) -> Response:
    """Return the outcomes of the new programs, stacked in one bar for each kind of edit."""
    with request.run.digest() as (digest, _):
        totals = edit_kind_totals(digest)[::-1]
    kinds = [each.kind for each in totals]
    outcomes = (
        ("improved on its parent", [each.improved for each in totals], "var(--blue)", ""),
        ("trained in full, not improved", [each.full - each.improved for each in totals], "var(--pale-gray)", "/"),
        ("stopped at a hurdle", [each.stopped for each in totals], "var(--line)", ""),
        ("failed", [each.failed for each in totals], "var(--red)", "x"),
        ("no result yet", [each.waiting for each in totals], "var(--card)", "."),
    )
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": counts,
            "y": kinds,
            "name": name,
            "marker": {
                "color": color,
                "pattern": {"shape": shape, "fgcolor": "var(--quiet)", "solidity": 0.25},
                "line": {"color": "var(--strong-line)", "width": 0.5},
            },
            "hovertemplate": f"%{{y}}: %{{x}} {name}<extra></extra>",
        }
        for name, counts, color, shape in outcomes
        if any(counts)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "xaxis": {"title": {"text": "new programs", "font": {"size": 13}}},
        "yaxis": {"ticks": ""},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    }
    return json_response({"data": traces, "layout": layout})
