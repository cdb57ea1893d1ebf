"""Figures of a comparison: loss curves over compute, steps and tokens, final differences, and losses by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import fmean
from typing import Any

from ....workers.position_buckets import bucket_names
from ....workers.protocol import Evaluation
from ...results.speedup import loss_curve
from ...studies.comparison_result import Comparison, ComparisonRow
from ..formatting import LOSS_UNITS
from .plot_style import GRAY, SERIES_COLORS, escape_label, figure_html

__all__ = ["LossBand", "curves_figure", "differences_figure", "loss_bands", "positions_figure"]


@dataclass(frozen=True, slots=True)
class LossBand:
    """Validation loss of one program over its training: mean, lowest and highest of its repeats at each point.

    Attributes:
        seconds: training time in the unit of the budget, such as reference seconds; wall-clock seconds if the budget
            counts steps. Mean of the repeats.
        steps, tokens: means of the repeats.
        mean, low, high: loss in `Comparison.loss_unit`.
    """

    seconds: tuple[float, ...]
    steps: tuple[float, ...]
    tokens: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def loss_bands(comparison: Comparison) -> dict[str, LossBand]:
    """Return the band of each program that finished a training, by name."""
    found = {row.name: [training.evaluation for training in comparison.of(row.name)] for row in comparison.rows}
    clocked = comparison.config.trial.unit == "steps"
    bands = {name: _band([one for one in results if one.outcome == "ok"], clocked) for name, results in found.items()}
    return {name: band for name, band in bands.items() if band is not None}


def curves_figure(comparison: Comparison, budget_unit: str) -> str:
    """Return the loss over training time, steps and tokens as HTML that includes plotly's script."""
    from plotly.subplots import make_subplots

    time = "seconds of training" if comparison.config.trial.unit == "steps" else budget_unit
    bands = loss_bands(comparison)
    if not bands:
        return ""
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03)
    for row, color in zip(comparison.rows, cycle(SERIES_COLORS), strict=False):
        band = bands.get(row.name)
        if band is None:
            continue
        for column, xs in enumerate((band.seconds, band.steps, band.tokens), start=1):
            for trace in _traces(row.name, xs, band, color, legend=column == 1):
                figure.add_trace(trace, row=1, col=column)
    figure.update_xaxes(type="log", dtick="D2")
    figure.update_yaxes(tickformat=".2f")
    for column, title in enumerate((time, "optimizer steps", "tokens"), start=1):
        figure.update_xaxes(title=title, row=1, col=column)
    figure.update_yaxes(title=f"validation loss, {LOSS_UNITS[comparison.loss_unit]}", range=_range(bands), row=1, col=1)
    return figure_html(figure, height=460)


def differences_figure(comparison: Comparison) -> str:
    """Return each program's final difference to the baseline, with its interval, as HTML without plotly's script."""
    import plotly.graph_objects as go

    rows = [row for row in comparison.rows if row.difference is not None]
    if not rows:
        return ""
    figure = go.Figure()
    figure.add_vline(x=0.0, line={"color": GRAY, "width": 1.5, "dash": "dot"})
    for row, color in zip(comparison.rows, cycle(SERIES_COLORS), strict=False):
        if row.difference is not None:
            figure.add_trace(_bar(go, row, color))
            figure.add_trace(_pairs(go, comparison, row, color))
    figure.update_xaxes(title=f"test loss minus {comparison.baseline}'s, {LOSS_UNITS[comparison.loss_unit]}")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(showlegend=False)
    return figure_html(figure, height=120 + 44 * len(rows), script=False)


def positions_figure(comparison: Comparison) -> str:
    """Return each program's test loss by position in the sequence, as HTML without plotly's script."""
    import plotly.graph_objects as go

    names = bucket_names(comparison.config.model.length)
    figure = go.Figure()
    for row, color in zip(comparison.rows, cycle(SERIES_COLORS), strict=False):
        if len(row.test_losses_by_position) == len(names):
            figure.add_trace(
                go.Scatter(
                    x=names,
                    y=list(row.test_losses_by_position),
                    name=row.name,
                    mode="lines+markers",
                    line={"color": color, "width": 2},
                    hovertemplate=f"{escape_label(row.name)}: %{{y:.4f}} at %{{x}}<extra></extra>",
                )
            )
    if not figure.data:
        return ""
    figure.update_xaxes(type="category", title="position in the sequence")
    figure.update_yaxes(title=f"test loss, {LOSS_UNITS['nats']}", tickformat=".2f")
    return figure_html(figure, height=380, script=False)


def _band(results: Sequence[Evaluation], clocked: bool) -> LossBand | None:
    curves = [(curve, result) for result in results if (curve := loss_curve(result)) is not None]
    if not curves:
        return None
    points = min(len(curve.compute) for curve, _ in curves)

    def mean_of_repeats(values: list[list[float]]) -> tuple[float, ...]:
        return tuple(fmean(column) for column in zip(*values, strict=True))

    steps = [[float(step) for step in curve.steps[-points:]] for curve, _ in curves]
    tokens = [[step * r.tokens / r.steps for step in own] for own, (_, r) in zip(steps, curves, strict=True)]
    seconds = [
        [step * r.train_seconds / r.steps for step in own] if clocked else list(curve.compute[-points:])
        for own, (curve, r) in zip(steps, curves, strict=True)
    ]
    losses = [[loss * _bits_per_nat(r) for loss in curve.loss_nats[-points:]] for curve, r in curves]
    columns = list(zip(*losses, strict=True))
    return LossBand(
        mean_of_repeats(seconds),
        mean_of_repeats(steps),
        mean_of_repeats(tokens),
        mean_of_repeats(losses),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
    )


def _bits_per_nat(result: Evaluation) -> float:
    """Return the factor from nats per token to bits per byte on the validation split; 1 for ids without text."""
    if result.bits_per_byte is None:
        return 1.0
    assert result.loss_nats is not None
    return result.bits_per_byte / result.loss_nats


def _traces(name: str, xs: Sequence[float], band: LossBand, color: str, legend: bool) -> list[Any]:
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
        hovertemplate=f"{escape_label(name)}: %{{y:.4f}} at %{{x:,.4g}}<extra></extra>",
    )
    return [around, line]


def _bar(go: Any, row: ComparisonRow, color: str) -> Any:
    estimate = row.difference
    assert estimate is not None
    half = estimate.half_width
    return go.Scatter(
        x=[estimate.mean],
        y=[escape_label(row.name)],
        mode="markers",
        marker={"color": color, "size": 11, "symbol": "square"},
        error_x=None if half is None else {"type": "data", "array": [half], "color": color, "thickness": 2, "width": 7},
        hovertemplate=f"%{{x:+.4f}}{'' if half is None else f' ± {half:.4f}'}<extra></extra>",
    )


def _pairs(go: Any, comparison: Comparison, row: ComparisonRow, color: str) -> Any:
    """Return the difference at each random seed, drawn as small open circles."""
    theirs = {one.seed: one.evaluation.test_score for one in comparison.of(comparison.baseline)}
    ours = {one.seed: one.evaluation.test_score for one in comparison.of(row.name)}
    pairs = [
        (seed, loss - base)
        for seed, loss in ours.items()
        if loss is not None and (base := theirs.get(seed)) is not None
    ]
    return go.Scatter(
        x=[difference for _, difference in pairs],
        y=[escape_label(row.name)] * len(pairs),
        mode="markers",
        marker={"color": color, "size": 6, "symbol": "circle-open"},
        customdata=[seed for seed, _ in pairs],
        hovertemplate="random seed %{customdata}: %{x:+.4f}<extra></extra>",
    )


def _range(bands: dict[str, LossBand]) -> list[float]:
    """Return the range of the loss axis. It may cut off the first third of a curve, which would flatten the rest."""
    low = min(min(band.low) for band in bands.values())
    high = max(band.high[len(band.high) // 3] for band in bands.values())
    room = 0.06 * (high - low) + 1e-3
    return [low - room, high + room]
