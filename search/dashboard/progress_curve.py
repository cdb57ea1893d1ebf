"""Progress figures: the best loss so far of one run or of several runs, as data for plotly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..evolution.candidate import BASELINE_ID, candidate_name
from ..reports.figures.plot_style import escape_label
from ..reports.figures.training_points import Point, falling_steps, loss_range
from ..results.digest.loss_history import LossHistory
from ..results.digest.run_digest import RunDigest

__all__ = ["AXES", "comparison_figure", "overview_figure"]

AXES = {"time": "minutes of search", "candidates": "trainings of candidates"}
"""Quantities of the horizontal axis, each with the title of the axis."""

_MOST_MARKS = 1200
"""Largest number of marks of each kind. With more trainings, only every second or every n-th one is drawn."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_COLORS = ("blue", "orange", "green", "purple", "red", "gray")


def overview_figure(digest: RunDigest, axis: str) -> dict[str, Any]:
    """Return the figure of one run: its trainings, its best loss so far, and the baseline with its noise."""
    stopped, full, controls = _thinned_points(digest.losses, axis)
    end = _end(digest.losses, axis)
    line = _best_so_far(digest, axis, end)
    traces = [
        _marks(stopped, "stopped at a hurdle (less training)", "pale-gray", "x-thin-open", 6),
        _marks(full, "trained in full", "blue", "circle-open", 6),
        _marks(controls, "baseline, trained again", "orange", "diamond", 8),
        {**_steps(line, "best so far", "blue", "solid"), "line": {"shape": "hv", "width": 2.5, "color": "var(--blue)"}},
    ]
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": AXES[axis]}, "rangemode": "tozero"},
            "yaxis": {
                "title": {"text": "validation loss, nats per token"},
                "range": loss_range([*full, *(Point(x, 1, loss, None) for x, loss in line)], controls, ()),
                "tickformat": ".2f",
            },
            **_baseline_band(digest, end),
        },
    }


def comparison_figure(digests: Mapping[str, RunDigest], axis: str, relative: bool) -> dict[str, Any]:
    """Return the figure of several runs: the best loss so far of each; `relative` subtracts the run's own baseline."""
    traces = []
    for place, (name, digest) in enumerate(digests.items()):
        mean = digest.baseline.loss_nats
        if not len(digest.losses) or (relative and mean is None):
            continue
        end = _end(digest.losses, axis)
        shift = (mean or 0.0) if relative else 0.0
        line = [(x, loss - shift) for x, loss in _best_so_far(digest, axis, end)]
        if not line:
            continue
        color = _COLORS[place % len(_COLORS)]
        traces.append(_steps(line, name, color, _DASHES[place % len(_DASHES)]))
    title = (
        "best loss minus the run's own baseline, nats" if relative else "best validation loss so far, nats per token"
    )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": AXES[axis]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": title}, "tickformat": "+.2f" if relative else ".2f"},
        "showlegend": True,
    }
    if relative:
        layout["shapes"] = [_line(0.0, 1.0, 0.0, xref="paper")]
    return {"data": traces, "layout": layout}


def _axis_values(history: LossHistory, axis: str) -> Iterator[float]:
    """Return the position of each training on the axis."""
    return (seconds / 60.0 for seconds in history.seconds) if axis == "time" else map(float, history.trainings)


def _end(history: LossHistory, axis: str) -> float:
    return max(_axis_values(history, axis), default=1.0)


def _thinned_points(history: LossHistory, axis: str) -> tuple[list[Point], list[Point], list[Point]]:
    """Return the stopped trainings, the full ones and those of the baseline, at most `_MOST_MARKS` of each."""
    values = list(_axis_values(history, axis))
    groups: tuple[list[int], list[int], list[int]] = ([], [], [])
    for place, (number, hurdle) in enumerate(zip(history.candidates, history.hurdles, strict=True)):
        groups[0 if hurdle else 2 if number == BASELINE_ID else 1].append(place)
    stopped, full, controls = (
        [
            Point(values[each], history.candidates[each], history.losses[each], history.hurdles[each] or None)
            for each in group[:: max(-(-len(group) // _MOST_MARKS), 1)]
        ]
        for group in groups
    )
    return stopped, full, controls


def _best_so_far(digest: RunDigest, axis: str, end: float) -> list[tuple[float, float]]:
    """Return the best loss so far as the steps of a curve. The baseline counts with its mean, as in the report."""
    mean = digest.baseline.loss_nats
    results = (
        (x, mean if number == BASELINE_ID and mean is not None else loss)
        for x, number, loss, hurdle in zip(
            _axis_values(digest.losses, axis),
            digest.losses.candidates,
            digest.losses.losses,
            digest.losses.hurdles,
            strict=True,
        )
        if not hurdle
    )
    return falling_steps(results, end)


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
    """Return the baseline's mean as a line, its noise as a band, and a label for both."""
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
