"""Figure of a run: the loss of every training, the best loss so far, and the baseline with its spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from ...evolution.candidate import BASELINE_ID
from ...results.leaderboard_rows import BaselineSummary
from .plot_style import BLUE, LIGHT_GRAY, ORANGE, figure_html

__all__ = ["Point", "best_so_far", "falling_steps", "loss_range", "progress_figure"]


@dataclass(frozen=True, slots=True)
class Point:
    """One training with a loss.

    Attributes:
        minutes: minutes of search until its result arrived, without pauses.
        candidate_id: id of the trained candidate.
        loss_nats: loss after the full budget, or at the hurdle that stopped it.
        hurdle: number of that hurdle, from 1; None for a full budget.
    """

    minutes: float
    candidate_id: int
    loss_nats: float
    hurdle: int | None


def progress_figure(points: Sequence[Point], baseline: BaselineSummary) -> str:
    """Return the figure as HTML that includes plotly's script; an empty string without trainings."""
    if not points:
        return ""
    import plotly.graph_objects as go

    full = [point for point in points if point.hurdle is None and point.candidate_id != BASELINE_ID]
    controls = [point for point in points if point.hurdle is None and point.candidate_id == BASELINE_ID]
    stopped = [point for point in points if point.hurdle is not None]
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
        customdata=["baseline" if point.candidate_id == BASELINE_ID else f"#{point.candidate_id}" for point in points],
        hovertemplate="%{customdata}: %{y:.4f} nats at %{x:.1f} min<extra></extra>",
    )


def best_so_far(
    full: Sequence[Point], controls: Sequence[Point], baseline: BaselineSummary, end: float
) -> list[tuple[float, float]]:
    """Return the steps of the best loss so far. The baseline counts with its mean, not with its best trial."""
    start = [] if baseline.loss_nats is None else [(point.minutes, baseline.loss_nats) for point in controls]
    return falling_steps(sorted([*start, *((point.minutes, point.loss_nats) for point in full)]), end)


def falling_steps(results: Iterable[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the results that are lower than all before, and the lowest again at the end of the axis.

    >>> falling_steps([(1.0, 4.0), (2.0, 4.1), (3.0, 3.9)], 5.0)
    [(1.0, 4.0), (3.0, 3.9), (5.0, 3.9)]
    """
    line: list[tuple[float, float]] = []
    for at, loss in results:
        if not line or loss < line[-1][1]:
            line.append((at, loss))
    return [*line, (end, line[-1][1])] if line else []


def loss_range(full: Sequence[Point], controls: Sequence[Point], stopped: Sequence[Point]) -> list[float] | None:
    """Return the range of the loss axis: the full trainings without far outliers, and a few stopped ones."""
    losses = [point.loss_nats for point in (*full, *controls)]
    if not losses:
        return None
    low, middle = min(losses), median(losses)
    high = max(loss for loss in losses if loss <= middle + 4 * (middle - low) + 0.05)
    if stopped:
        high = max(high, min(fmean([high, max(point.loss_nats for point in stopped)]), high + 2 * (high - low) + 0.02))
    room = 0.06 * (high - low) + 0.005
    return [low - room, high + room]
