"""The figures of a comparison: loss against compute, steps and tokens, and the differences at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ....workers.protocol import Evaluation
from ...results.speedup import loss_curve
from ...studies.compare import Comparison, ComparisonRow

__all__ = ["Band", "bands_of", "curves_figure", "differences_figure"]

_INK, _GRID = "#1f2933", "#e4e7eb"
_COLORS = ("#52606d", "#2563a8", "#c2571a", "#2f855a", "#8b3fa8", "#b7791f", "#0e7490", "#be185d", "#65731c", "#4c51bf")
_CONFIG = {"displaylogo": False, "responsive": True}
_FONT = {"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 13, "color": _INK}
_AXIS = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "ticks": "outside", "tickcolor": _GRID}


@dataclass(frozen=True, slots=True)
class Band:
    """A subject's validation loss over its training: mean, lowest and highest of its seeds at each point.

    Attributes:
        seconds: of training, by the clock of the trial (reference seconds where the budget counts them).
        steps, tokens: means over seeds.
        mean, low, high: loss in bits per byte.
    """

    seconds: tuple[float, ...]
    steps: tuple[float, ...]
    tokens: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def bands_of(comparison: Comparison) -> dict[str, Band]:
    """The band of each subject that finished a training."""
    found = {row.name: [training.evaluation for training in comparison.of(row.name)] for row in comparison.rows}
    clocked = comparison.config.trial.unit == "steps"
    bands = {name: _band([one for one in results if one.outcome == "ok"], clocked) for name, results in found.items()}
    return {name: band for name, band in bands.items() if band is not None}


def curves_figure(comparison: Comparison, budget_words: str) -> str:
    """Loss against training time, steps and tokens, as HTML with plotly's script inlined."""
    from plotly.subplots import make_subplots

    time = "seconds of training" if comparison.config.trial.unit == "steps" else budget_words
    bands = bands_of(comparison)
    if not bands:
        return ""
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03)
    for number, row in enumerate(comparison.rows):
        band = bands.get(row.name)
        if band is None:
            continue
        for column, xs in enumerate((band.seconds, band.steps, band.tokens), start=1):
            for trace in _traces(row.name, xs, band, _COLORS[number % len(_COLORS)], legend=column == 1):
                figure.add_trace(trace, row=1, col=column)
    figure.update_xaxes(**_AXIS, type="log", dtick="D2")
    figure.update_yaxes(**_AXIS, tickformat=".2f")
    for column, title in enumerate((time, "optimizer steps", "tokens"), start=1):
        figure.update_xaxes(title={"text": title}, row=1, col=column)
    figure.update_yaxes(title={"text": "validation loss, bits per byte"}, range=_range(bands), row=1, col=1)
    figure.update_layout(**_layout(460), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure.to_html(full_html=False, include_plotlyjs=True, config=_CONFIG)


def differences_figure(comparison: Comparison) -> str:
    """Each subject's final difference to the baseline with its interval, as HTML without the script."""
    import plotly.graph_objects as go

    rows = [row for row in comparison.rows if row.difference is not None]
    if not rows:
        return ""
    figure = go.Figure()
    figure.add_vline(x=0.0, line={"color": _COLORS[0], "width": 1.5, "dash": "dot"})
    for number, row in enumerate(comparison.rows):
        if row.difference is not None:
            figure.add_trace(_bar(go, row, _COLORS[number % len(_COLORS)]))
            figure.add_trace(_pairs(go, comparison, row, _COLORS[number % len(_COLORS)]))
    figure.update_xaxes(**_AXIS, title={"text": f"test loss minus {comparison.baseline}'s, bits per byte"})
    figure.update_yaxes(**_AXIS, autorange="reversed")
    figure.update_layout(**_layout(120 + 44 * len(rows)), showlegend=False)
    return figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG)


def _band(results: Sequence[Evaluation], clocked: bool) -> Band | None:
    curves = [(curve, result) for result in results if (curve := loss_curve(result)) is not None]
    if not curves:
        return None
    points = min(len(curve.compute) for curve, _ in curves)

    def over_seeds(values: list[list[float]]) -> tuple[float, ...]:
        return tuple(fmean(column) for column in zip(*values, strict=True))

    steps = [[float(step) for step in curve.steps[-points:]] for curve, _ in curves]
    tokens = [[step * r.tokens / r.steps for step in own] for own, (_, r) in zip(steps, curves, strict=True)]
    seconds = [
        [step * r.train_seconds / r.steps for step in own] if clocked else list(curve.compute[-points:])
        for own, (curve, r) in zip(steps, curves, strict=True)
    ]
    losses = [[loss * _bits_per_nat(r) for loss in curve.loss_nats[-points:]] for curve, r in curves]
    columns = list(zip(*losses, strict=True))
    return Band(
        over_seeds(seconds),
        over_seeds(steps),
        over_seeds(tokens),
        over_seeds(losses),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
    )


def _bits_per_nat(result: Evaluation) -> float:
    """Bits per byte of a loss of one nat per token, on the validation split."""
    assert result.bits_per_byte is not None
    assert result.loss_nats is not None
    return result.bits_per_byte / result.loss_nats


def _traces(name: str, xs: Sequence[float], band: Band, color: str, legend: bool) -> list[Any]:
    import plotly.graph_objects as go

    around = go.Scatter(
        x=[*xs, *reversed(xs)],
        y=[*band.high, *reversed(band.low)],
        fill="toself",
        fillcolor=color,
        opacity=0.16,
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
    )
    line = go.Scatter(
        x=list(xs),
        y=list(band.mean),
        name=name,
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": 4},
        legendgroup=name,
        showlegend=legend,
        hovertemplate=f"{_escaped(name)}: %{{y:.4f}} at %{{x:,.4g}}<extra></extra>",
    )
    return [around, line]


def _bar(go: Any, row: ComparisonRow, color: str) -> Any:
    estimate = row.difference
    assert estimate is not None
    half = estimate.half_width
    return go.Scatter(
        x=[estimate.mean],
        y=[_escaped(row.name)],
        mode="markers",
        marker={"color": color, "size": 11, "symbol": "square"},
        error_x=None if half is None else {"type": "data", "array": [half], "color": color, "thickness": 2, "width": 7},
        hovertemplate=f"%{{x:+.4f}}{'' if half is None else f' ± {half:.4f}'}<extra></extra>",
    )


def _pairs(go: Any, comparison: Comparison, row: ComparisonRow, color: str) -> Any:
    """The difference at each seed, as small open marks."""
    theirs = {one.seed: one.evaluation.test_bits_per_byte for one in comparison.of(comparison.baseline)}
    ours = {one.seed: one.evaluation.test_bits_per_byte for one in comparison.of(row.name)}
    pairs = [
        (seed, loss - base)
        for seed, loss in ours.items()
        if loss is not None and (base := theirs.get(seed)) is not None
    ]
    return go.Scatter(
        x=[difference for _, difference in pairs],
        y=[_escaped(row.name)] * len(pairs),
        mode="markers",
        marker={"color": color, "size": 6, "symbol": "circle-open"},
        customdata=[seed for seed, _ in pairs],
        hovertemplate="seed %{customdata}: %{x:+.4f}<extra></extra>",
    )


def _range(bands: dict[str, Band]) -> list[float]:
    """From the best end to somewhat above where the curves are half way: the steep start would flatten the rest."""
    low = min(min(band.low) for band in bands.values())
    high = max(band.high[len(band.high) // 3] for band in bands.values())
    room = 0.06 * (high - low) + 1e-3
    return [low - room, high + room]


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 44, "b": 52},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": _FONT,
    }


def _escaped(text: str) -> str:
    """Plotly reads some HTML in names."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
