"""Figure of a run: the loss of every training, the best loss so far, and the baseline with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...evolution.candidate import candidate_name
from ...results.leaderboard_rows import BaselineSummary
from .plot_style import BLUE, LIGHT_GRAY, ORANGE, figure_html
from .training_points import Point, best_so_far, group_points, loss_range

__all__ = ["progress_figure"]


def progress_figure(points: Sequence[Point], baseline: BaselineSummary) -> str:
    """Return the figure as HTML that includes plotly's script; an empty string without trainings."""
    if not points:
        return ""
    import plotly.graph_objects as go

    stopped, full, controls = group_points(points)
    end = max(point.minutes for point in points)
    figure = go.Figure()
    _add_baseline(figure, baseline, end)
    figure.add_trace(_markers(go, stopped, "stopped at a hurdle (less training)", LIGHT_GRAY, "x-thin-open", 6))
    figure.add_trace(_markers(go, full, "full training", BLUE, "circle", 7))
    figure.add_trace(_markers(go, controls, "the baseline's own trainings", ORANGE, "diamond", 8))
    line = best_so_far(full, controls, baseline, end)
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in line],
            y=[y for _, y in line],
            name="best so far",
            mode="lines",
            line={"shape": "hv", "color": BLUE, "width": 2.5},
            hovertemplate="best so far %{y:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title="minutes of search", rangemode="tozero")
    figure.update_yaxes(
        title="validation loss, nats per token", range=loss_range(full, controls, stopped), tickformat=".2f"
    )
    return figure_html(figure, height=440)


def _add_baseline(figure: Any, baseline: BaselineSummary, end: float) -> None:
    if baseline.loss_nats is None:
        return
    if baseline.spread_nats is not None:
        low, high = baseline.loss_nats - baseline.spread_nats, baseline.loss_nats + baseline.spread_nats
        figure.add_shape(
            type="rect", x0=0, x1=end, y0=low, y1=high, fillcolor=ORANGE, opacity=0.14, line_width=0, layer="below"
        )
    line = {"color": ORANGE, "width": 1.5, "dash": "dot"}
    figure.add_shape(type="line", x0=0, x1=end, y0=baseline.loss_nats, y1=baseline.loss_nats, line=line)
    spread = " and spread" if baseline.spread_nats is not None else ""
    figure.add_annotation(
        x=0.01,
        xref="paper",
        y=baseline.loss_nats + (baseline.spread_nats or 0.0),
        text=f"the baseline's mean{spread}",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        font={"color": ORANGE, "size": 12},
    )


def _markers(go: Any, points: Sequence[Point], name: str, color: str, symbol: str, size: int) -> Any:
    return go.Scatter(
        x=[point.minutes for point in points],
        y=[point.loss_nats for point in points],
        name=name,
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": size, "line": {"width": 1.2, "color": color}},
        customdata=[candidate_name(point.candidate_id) for point in points],
        hovertemplate="%{customdata}: %{y:.4f} nats at %{x:.1f} min<extra></extra>",
    )
