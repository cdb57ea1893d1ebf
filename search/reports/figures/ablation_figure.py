"""Forest plot of an ablation: both effects of each change, and the effect of the no-op, with intervals."""

from __future__ import annotations

from typing import Any

from ...results.statistics import Estimate
from ...studies.ablation import Ablation
from ..formatting import LOSS_UNITS
from .plot_style import BLUE, GRAY, INK, ORANGE, escape_label, figure_html

__all__ = ["forest_figure"]

_OFFSET = 0.17
"""Vertical distance of the two effects of a change from the middle of their row; rows are 1 apart."""

_LONGEST_LABEL = 58
"""Longest label next to the axis, in characters; the pointer shows the whole sentence."""


def forest_figure(ablation: Ablation) -> str:
    """Return the figure as HTML that includes plotly's script."""
    import plotly.graph_objects as go

    sentences = [effect.change.description for effect in ablation.effects]
    labels = [f"{effect.change.number}  {_short(effect.change.description)}" for effect in ablation.effects]
    labels += ["all changes together"] + (["no-op: x(x − mean) in a norm"] if ablation.control is not None else [])
    ablations = [(y - _OFFSET, effect.ablation) for y, effect in enumerate(ablation.effects)]
    insertions = [(y + _OFFSET, effect.insertion) for y, effect in enumerate(ablation.effects)]
    last = float(len(sentences))
    figure = go.Figure()
    if ablation.control is not None and ablation.control.low is not None:
        noise = {"fillcolor": GRAY, "opacity": 0.13, "line_width": 0, "layer": "below"}
        figure.add_vrect(x0=ablation.control.low, x1=ablation.control.high, **noise)
    figure.add_vline(x=0.0, line={"color": GRAY, "width": 1.5, "dash": "dot"})
    figure.add_trace(_marks(go, "ablation: removed from the candidate", ablations, sentences, BLUE, "square"))
    figure.add_trace(_marks(go, "insertion: alone in the baseline", insertions, sentences, ORANGE, "diamond-open"))
    figure.add_trace(_marks(go, "all changes", [(last, ablation.whole)], [ablation.name], INK, "diamond"))
    if ablation.control is not None:
        figure.add_trace(_marks(go, "no-op (noise)", [(last + 1, ablation.control)], [labels[-1]], GRAY, "circle"))
    figure.update_xaxes(title=f"gain, {LOSS_UNITS[ablation.loss_unit]} (right: the change helps)")
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[escape_label(label) for label in labels],
        range=[len(labels) - 0.5, -0.5],
    )
    figure.update_layout(margin_l=16)
    return figure_html(figure, height=150 + 42 * len(labels))


def _marks(
    go: Any, name: str, places: list[tuple[float, Estimate | None]], sentences: list[str], color: str, symbol: str
) -> Any:
    found = [(y, e, sentence) for (y, e), sentence in zip(places, sentences, strict=True) if e is not None]
    halves = [estimate.half_width for _, estimate, _ in found]
    bars = [half or 0.0 for half in halves]
    return go.Scatter(
        x=[estimate.mean for _, estimate, _ in found],
        y=[y for y, _, _ in found],
        name=name,
        mode="markers",
        marker={"color": color, "size": 10, "symbol": symbol, "line": {"width": 2, "color": color}},
        error_x={"type": "data", "array": bars, "color": color, "thickness": 2, "width": 5} if any(bars) else None,
        customdata=[
            [escape_label(sentence), "" if half is None else f" ± {half:.4f}"]
            for (_, _, sentence), half in zip(found, halves, strict=True)
        ],
        hovertemplate="%{customdata[0]}<br>%{x:+.4f}%{customdata[1]}<extra></extra>",
    )


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST_LABEL else f"{sentence[: _LONGEST_LABEL - 1]}…"
