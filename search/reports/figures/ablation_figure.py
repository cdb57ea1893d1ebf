"""The forest plot of an ablation: every change's two effects with their intervals, beside the no-op's."""

from __future__ import annotations

from typing import Any

from ...results.statistics import Estimate
from ...studies.ablation import Ablation

__all__ = ["forest_figure"]

_INK, _GRID, _ABLATION, _INSERTION, _NOISE = "#1f2933", "#e4e7eb", "#2563a8", "#c2571a", "#7b8794"

_OFFSET = 0.17
"""Of a row, by which its two effects stand apart."""

_LETTERS = 58
"""Of a sentence beside the axis; the whole of it appears under the pointer."""


def forest_figure(ablation: Ablation) -> str:
    """The figure as HTML with its script inlined."""
    import plotly.graph_objects as go

    rows = [f"{effect.change.number}  {_short(effect.change.description)}" for effect in ablation.effects]
    rows += ["all changes together"] + (["no-op: x(x − mean) in a norm"] if ablation.control is not None else [])
    sentences = [effect.change.description for effect in ablation.effects]
    ablations = [(y - _OFFSET, effect.ablation) for y, effect in enumerate(ablation.effects)]
    insertions = [(y + _OFFSET, effect.insertion) for y, effect in enumerate(ablation.effects)]
    last = float(len(sentences))
    figure = go.Figure()
    if ablation.control is not None and ablation.control.low is not None:
        figure.add_vrect(
            x0=ablation.control.low,
            x1=ablation.control.high,
            fillcolor=_NOISE,
            opacity=0.13,
            line_width=0,
            layer="below",
        )
    figure.add_vline(x=0.0, line={"color": _NOISE, "width": 1.5, "dash": "dot"})
    figure.add_trace(_marks(go, "candidate − without it", ablations, sentences, _ABLATION, "square"))
    figure.add_trace(_marks(go, "baseline − with it alone", insertions, sentences, _INSERTION, "diamond-open"))
    figure.add_trace(_marks(go, "all changes", [(last, ablation.whole)], [ablation.name], _INK, "diamond"))
    if ablation.control is not None:
        figure.add_trace(_marks(go, "no-op (noise)", [(last + 1, ablation.control)], [rows[-1]], _NOISE, "circle"))
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "tickcolor": _GRID}
    figure.update_xaxes(**axis, ticks="outside", title={"text": "gain, bits per byte (right: the change helps)"})
    figure.update_yaxes(
        **axis,
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[_escaped(row) for row in rows],
        range=[len(rows) - 0.5, -0.5],
        automargin=True,
    )
    figure.update_layout(
        height=150 + 42 * len(rows),
        margin={"l": 16, "r": 16, "t": 44, "b": 52},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 13, "color": _INK},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False, "responsive": True})


def _marks(
    go: Any, name: str, places: list[tuple[float, Estimate | None]], sentences: list[str], color: str, symbol: str
) -> Any:
    found = [(y, e, words) for (y, e), words in zip(places, sentences, strict=True) if e is not None]
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
            [_escaped(words), "" if half is None else f" ± {half:.4f}"]
            for (_, _, words), half in zip(found, halves, strict=True)
        ],
        hovertemplate="%{customdata[0]}<br>%{x:+.4f}%{customdata[1]}<extra></extra>",
    )


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= _LETTERS else f"{sentence[: _LETTERS - 1]}…"


def _escaped(text: str) -> str:
    """Plotly reads some HTML in names."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
