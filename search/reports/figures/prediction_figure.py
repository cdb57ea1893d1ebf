"""Figure of the predictions of a guided search: predicted and reached losses, with one color for each stop.

A stop is a share of the budget at which trainings with a bad prediction end.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from ...evolution.candidate import candidate_name
from ...results.trust.prediction_calibration import CheckedPrediction
from .plot_style import BLUE, GRAY, LIGHT_GRAY, ORANGE, SERIES_COLORS, figure_html

__all__ = ["loss_limits", "prediction_figure"]

_COLORS = (ORANGE, BLUE, *SERIES_COLORS[3:])


def prediction_figure(checked: Sequence[CheckedPrediction]) -> str:
    """Return the figure as HTML without plotly's script, which the page has; an empty string without predictions."""
    if not checked:
        return ""
    import plotly.graph_objects as go

    low, high = loss_limits(checked)
    figure = go.Figure()
    figure.add_shape(
        type="line", x0=low, x1=high, y0=low, y1=high, line={"color": GRAY, "width": 1.2, "dash": "dot"}, layer="below"
    )
    for place, share in enumerate(sorted({each.share for each in checked})):
        here = [each for each in checked if each.share == share]
        figure.add_trace(_markers(go, here, f"predicted at {share:.0%} of the budget", _COLORS[place % len(_COLORS)]))
    figure.update_xaxes(title="predicted final loss, nats per token", range=[low, high], tickformat=".2f")
    figure.update_yaxes(title="reached final loss, nats per token", range=[low, high], tickformat=".2f")
    return figure_html(figure, height=480, script=False)


def _markers(go: Any, here: Sequence[CheckedPrediction], name: str, color: str) -> Any:
    symbols = ["circle" if each.stoppable else "circle-open" for each in here]
    words = ["it passed the stop" if each.stoppable else "it could not be stopped" for each in here]
    return go.Scatter(
        x=[each.predicted.mean for each in here],
        y=[each.reached_nats for each in here],
        error_x={
            "array": [2.0 * each.predicted.sd for each in here],
            "color": LIGHT_GRAY,
            "thickness": 1,
            "width": 0,
        },
        name=name,
        mode="markers",
        marker={"color": color, "symbol": symbols, "size": 8, "line": {"width": 1.5, "color": color}},
        customdata=[[candidate_name(each.candidate_id), text] for each, text in zip(here, words, strict=True)],
        hovertemplate="%{customdata[0]}: predicted %{x:.4f}, reached %{y:.4f}; %{customdata[1]}<extra></extra>",
    )


def loss_limits(checked: Sequence[CheckedPrediction]) -> tuple[float, float]:
    """Return the range of both axes, without losses that are far too high."""
    losses = [loss for each in checked for loss in (each.predicted.mean, each.reached_nats)]
    low, middle = min(losses), median(losses)
    high = max(loss for loss in losses if loss <= middle + 5 * (middle - low) + 0.02)
    room = 0.08 * (high - low) + 0.01
    return low - room, high + room
