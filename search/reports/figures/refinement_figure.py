"""Figure of a rank reduction: the change of the criterion for each layer, matrix and share of the rank."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from ...refinement.refinement_result import RefinementResult, Scores
from .plot_style import GRAY, SERIES_COLORS, escape_label, figure_html
from .static_style import new_axes

if TYPE_CHECKING:  # loads matplotlib
    from matplotlib.figure import Figure

__all__ = ["refinement_html", "refinement_plot"]

Curves = dict[tuple[str, int], tuple[list[float], list[float]]]
"""Shares of the rank, and changes of the criterion, by matrix and layer."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
LINES = ("-", "--", ":", "-.")


def refinement_html(result: RefinementResult) -> str:
    """Return the figure as HTML that includes plotly's script: a color for each matrix, a dash for each layer."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_hline(y=0.0, line={"color": GRAY, "width": 1.5, "dash": "dot"})
    curves = _curves(result)
    colors = dict(zip(_matrices(curves), cycle(SERIES_COLORS), strict=False))
    for (matrix, layer), (shares, changes) in curves.items():
        label = escape_label(f"{matrix}, layer {layer}")
        trace = go.Scatter(
            x=shares,
            y=changes,
            name=label,
            mode="lines+markers",
            line={"color": colors[matrix], "dash": DASHES[(layer - 1) % len(DASHES)], "width": 1.6},
            marker={"size": 5},
            hovertemplate=f"{label}: %{{y:+.4f}} at a rank of %{{x}}<extra></extra>",
        )
        figure.add_trace(trace)
    figure.update_xaxes(title="share of the rank that is kept", type="log", dtick="D2")
    figure.update_yaxes(title=_axis(result), range=_range(curves))
    figure.update_layout(legend={"orientation": "v", "x": 1.02, "y": 1.0, "xanchor": "left", "yanchor": "top"})
    return figure_html(figure, height=max(440, 80 + 20 * len(curves)))


def refinement_plot(result: RefinementResult) -> Figure:
    """Draw the figure with matplotlib.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = new_axes(8.4, 4.6)
    curves = _curves(result)
    colors = dict(zip(_matrices(curves), cycle(SERIES_COLORS), strict=False))
    axes.axhline(0.0, color=GRAY, lw=1.2, ls=":")
    for (matrix, layer), (shares, changes) in curves.items():
        line = LINES[(layer - 1) % len(LINES)]
        axes.plot(shares, changes, color=colors[matrix], ls=line, lw=1.3, marker="o", ms=3, label=f"{matrix}, {layer}")
    axes.set_xscale("log")
    if (shown := _range(curves)) is not None:
        axes.set_ylim(*shown)
    axes.set_xlabel("share of the rank that is kept")
    axes.set_ylabel(_axis(result))
    figure.legend(loc="outside right upper", fontsize=7, title="matrix, layer", frameon=False)
    return figure


def _curves(result: RefinementResult) -> Curves:
    curves: Curves = {}
    for tried in result.tried:
        shares, changes = curves.setdefault((tried.reduction.matrix, tried.reduction.layer), ([], []))
        shares.append(tried.reduction.share)
        changes.append(_change(result, tried.scores))
    return curves


def _change(result: RefinementResult, scores: Scores) -> float:
    if result.criterion == "loss":
        return scores.loss_nats - result.original.loss_nats
    return scores.accuracy - result.original.accuracy


def _matrices(curves: Curves) -> list[str]:
    return list(dict.fromkeys(matrix for matrix, _ in curves))


def _axis(result: RefinementResult) -> str:
    unit = "loss, nats per token" if result.criterion == "loss" else "next-token accuracy"
    return f"change of the {unit}"


def _range(curves: Curves) -> list[float] | None:
    """Return the range of the axis of changes, without the largest third of them, which would flatten the rest."""
    changes = sorted((change for _, own in curves.values() for change in own), key=abs)
    if not changes:
        return None
    largest = max(abs(changes[2 * (len(changes) - 1) // 3]), 1e-6)
    return [-1.2 * largest, 1.2 * largest]
