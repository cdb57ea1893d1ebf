"""Figures of progress: the best loss so far of one run or of several, as data for plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evolution.candidate import BASELINE_ID, candidate_name
from ..reports.figures.plot_style import escape_label
from ..reports.figures.run_figure import Point, falling_steps, loss_range
from ..results.digest.loss_history import LossHistory
from ..results.digest.run_digest import RunDigest

__all__ = ["AXES", "comparison_figure", "overview_figure"]

AXES = {"time": "minutes of search", "candidates": "trainings of candidates"}
"""What progress can be drawn against, and the title of the axis."""

_MOST_MARKS = 1200
"""Marks of each kind in a figure; of more trainings, one of several is drawn. The line of the best has all."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_COLORS = ("blue", "orange", "green", "purple", "red", "gray")


def overview_figure(digest: RunDigest, axis: str) -> dict[str, Any]:
    """Return the trainings of a run, its best so far, and the baseline with its noise."""
    points = list(_points(digest.losses, axis))
    full = [point for point in points if point.hurdle is None and point.candidate_id != BASELINE_ID]
    controls = [point for point in points if point.hurdle is None and point.candidate_id == BASELINE_ID]
    stopped = [point for point in points if point.hurdle is not None]
    end = max((point.minutes for point in points), default=1.0)
    line = _best_so_far(digest, axis, end)
    traces = [
        _marks(_thinned(stopped), "stopped at a hurdle (less training)", "pale-gray", "x-thin-open", 6),
        _marks(_thinned(full), "trained in full", "blue", "circle-open", 6),
        _marks(_thinned(controls), "baseline, trained again", "orange", "diamond", 8),
        {**_steps(line, "best so far", "blue", "solid"), "line": {"shape": "hv", "width": 2.5, "color": "var(--blue)"}},
    ]
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": AXES[axis]}, "rangemode": "tozero"},
            "yaxis": {
                "title": {"text": "validation loss, nats per token"},
                "range": loss_range(full, controls, ()),
                "tickformat": ".2f",
            },
            **_baseline_band(digest, end),
        },
    }


def comparison_figure(digests: Mapping[str, RunDigest], axis: str, relative: bool) -> dict[str, Any]:
    """Return the best so far of several runs, by name; `relative` subtracts each run's own baseline."""
    traces, notes = [], []
    for place, (name, digest) in enumerate(digests.items()):
        mean = digest.baseline.loss_nats
        if not len(digest.losses) or (relative and mean is None):
            continue
        end = max(x for x, *_ in _results(digest.losses, axis))
        shift = (mean or 0.0) if relative else 0.0
        line = [(x, loss - shift) for x, loss in _best_so_far(digest, axis, end)]
        if not line:
            continue
        color = _COLORS[place % len(_COLORS)]
        traces.append(_steps(line, name, color, _DASHES[place % len(_DASHES)]))
        notes.append(
            {"x": line[-1][0], "y": line[-1][1], "text": escape_label(name), "showarrow": False, "xanchor": "right",
             "yanchor": "bottom", "font": {"color": f"var(--{color})", "size": 12}}
        )  # fmt: skip
    title = (
        "best loss minus the run's own baseline, nats" if relative else "best validation loss so far, nats per token"
    )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": AXES[axis]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": title}, "tickformat": "+.2f" if relative else ".2f"},
        "annotations": notes,
        "showlegend": True,
    }
    if relative:
        layout["shapes"] = [_line(0.0, 1.0, 0.0, xref="paper")]
    return {"data": traces, "layout": layout}


def _results(history: LossHistory, axis: str) -> list[tuple[float, int, float, int]]:
    """Return place on the axis, candidate, loss and hurdle of every training."""
    if axis == "time":
        return [(seconds / 60.0, number, loss, hurdle) for seconds, _, number, loss, hurdle in history.rows()]
    return [(float(trainings), number, loss, hurdle) for _, trainings, number, loss, hurdle in history.rows()]


def _points(history: LossHistory, axis: str) -> list[Point]:
    return [Point(x, number, loss, hurdle or None) for x, number, loss, hurdle in _results(history, axis)]


def _best_so_far(digest: RunDigest, axis: str, end: float) -> list[tuple[float, float]]:
    """Return the steps of the best loss; the baseline counts with its mean, as in the report."""
    mean = digest.baseline.loss_nats
    results = (
        (x, mean if number == BASELINE_ID and mean is not None else loss)
        for x, number, loss, hurdle in _results(digest.losses, axis)
        if not hurdle
    )
    return falling_steps(results, end)


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return every k-th point, so that at most `_MOST_MARKS` are left."""
    return points[:: -(-len(points) // _MOST_MARKS)] if points else points


def _marks(points: Sequence[Point], name: str, color: str, symbol: str, size: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(point.minutes, 3) for point in points],
        "y": [round(point.loss_nats, 5) for point in points],
        "text": [candidate_name(point.candidate_id) for point in points],
        "marker": {
            "color": f"var(--{color})",
            "symbol": symbol,
            "size": size,
            "line": {"width": 1.2, "color": f"var(--{color})"},
        },
        "hovertemplate": "%{text}: %{y:.4f} nats<extra></extra>",
    }


def _steps(line: Sequence[tuple[float, float]], name: str, color: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escape_label(name),
        "x": [x for x, _ in line],
        "y": [y for _, y in line],
        "line": {"shape": "hv", "width": 2.5, "dash": dash, "color": f"var(--{color})"},
        "hovertemplate": f"{escape_label(name)}: %{{y:.4f}}<extra></extra>",
    }


def _baseline_band(digest: RunDigest, end: float) -> dict[str, Any]:
    """Return the baseline's mean as a line, and its noise as a band, with their label."""
    baseline = digest.baseline
    if baseline.loss_nats is None:
        return {}
    shapes, label = [_line(0.0, end, baseline.loss_nats)], "baseline"
    if baseline.noise_nats is not None:
        low, high = baseline.loss_nats - baseline.noise_nats, baseline.loss_nats + baseline.noise_nats
        box = {"type": "rect", "x0": 0, "x1": end, "y0": low, "y1": high, "layer": "below", "line": {"width": 0}}
        shapes.append({**box, "fillcolor": "var(--orange)", "opacity": 0.13})
        label = "baseline ± noise of one training (95%)"
    note = {"x": 1, "xref": "paper", "xanchor": "right", "y": baseline.loss_nats, "yanchor": "bottom", "text": label}
    font = {"color": "var(--orange)", "size": 12}
    return {"shapes": shapes, "annotations": [{**note, "showarrow": False, "font": font}]}


def _line(start: float, end: float, at: float, **more: Any) -> dict[str, Any]:
    style = {"color": "var(--orange)", "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": start, "x1": end, "y0": at, "y1": at, "line": style, **more}
