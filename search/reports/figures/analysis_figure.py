"""Figure of an analysis: scores of the layers, and the rise of the loss if one is removed or linearized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...refinement.analysis_result import ModelAnalysis
from ...refinement.paired_difference import PairedDifference
from .plot_style import BLUE, GRAY, ORANGE, figure_html
from .static_style import new_axes

if TYPE_CHECKING:  # loads matplotlib
    from matplotlib.figure import Figure

__all__ = ["analysis_figure", "analysis_html", "analysis_plot"]

GREEN = "#2f855a"
THEME = {"blue": "var(--blue)", "orange": "var(--orange)", "green": "var(--green)", "gray": "var(--quiet)"}
"""Colors of the dashboard, which has a light and a dark scheme."""

FIXED = {"blue": BLUE, "orange": ORANGE, "green": GREEN, "gray": GRAY}

SCORES = (
    ("linearity", "linearity", "blue", "circle", "o"),
    ("block_linearity", "linearity without the residual", "orange", "diamond", "D"),
    ("cosine", "cosine of input and output", "gray", "square", "s"),
)
"""Attribute of `LayerAnalysis`, name, color, marker in plotly, marker in matplotlib."""

COSTS = (("removed", "layer removed", "orange", "x", "x"), ("linearized", "layer linearized", "green", "circle", "o"))


def analysis_figure(analysis: ModelAnalysis, colors: dict[str, str] = THEME) -> dict[str, Any]:
    """Return the figure as plain data of plotly: traces and layout."""
    layers = [layer.layer for layer in analysis.layers]
    scores = [
        _trace(name, layers, [getattr(layer, field) for layer in analysis.layers], colors[color], symbol)
        for field, name, color, symbol, _ in SCORES
    ]
    costs = []
    for field, name, color, symbol, _ in COSTS:
        changes: list[PairedDifference] = [getattr(layer, field) for layer in analysis.layers]
        trace = _trace(name, layers, [change.mean for change in changes], colors[color], symbol)
        bars = {"type": "data", "array": [2.0 * (change.error or 0.0) for change in changes], "color": colors[color]}
        costs.append({**trace, "xaxis": "x2", "yaxis": "y2", "error_y": bars})
    ticks = {"title": {"text": "layer"}, "dtick": max(1, len(layers) // 12)}
    layout = {
        "xaxis": {**ticks, "domain": [0.0, 0.45]},
        "xaxis2": {**ticks, "domain": [0.57, 1.0], "anchor": "y2"},
        "yaxis": {"title": {"text": "score"}},
        "yaxis2": {"title": {"text": "rise of the loss, nats per token"}, "anchor": "x2"},
    }
    return {"data": [*scores, *costs], "layout": layout}


def analysis_html(analysis: ModelAnalysis) -> str:
    """Return the figure as HTML that includes plotly's script."""
    import plotly.graph_objects as go

    return figure_html(go.Figure(analysis_figure(analysis, FIXED)), height=420)


def analysis_plot(analysis: ModelAnalysis) -> Figure:
    """Draw the figure with matplotlib.

    Raises:
        UsageError: matplotlib is not installed.
    """
    layers = [layer.layer for layer in analysis.layers]
    figure, (left, right) = new_axes(9.0, 4.0, columns=2)
    for field, name, color, _, marker in SCORES:
        values = [getattr(layer, field) for layer in analysis.layers]
        ys = [float("nan") if value is None else value for value in values]
        left.plot(layers, ys, color=FIXED[color], marker=marker, ms=4, lw=1.4, label=name)
    for field, name, color, _, marker in COSTS:
        found = [(layer.layer, getattr(layer, field)) for layer in analysis.layers]
        shown = [(number, change) for number, change in found if change.mean is not None]
        ys, bars = [change.mean for _, change in shown], [2.0 * (change.error or 0.0) for _, change in shown]
        xs = [number for number, _ in shown]
        right.errorbar(xs, ys, yerr=bars, color=FIXED[color], fmt=f"{marker}-", ms=5, capsize=3, lw=1.4, label=name)
    for axes, title in ((left, "score"), (right, "rise of the loss, nats per token")):
        axes.set_xlabel("layer")
        axes.set_ylabel(title)
        axes.set_xticks(layers[:: max(1, len(layers) // 12)])
        axes.legend(loc="best")
    return figure


def _trace(name: str, layers: list[int], values: list[float | None], color: str, symbol: str) -> dict[str, Any]:
    return {
        "x": layers,
        "y": values,
        "name": name,
        "mode": "lines+markers",
        "line": {"color": color, "width": 2},
        "marker": {"color": color, "symbol": symbol, "size": 8},
        "hovertemplate": f"{name}, layer %{{x}}: %{{y:.4f}}<extra></extra>",
    }
