"""The figures of a run as files, drawn with matplotlib. They show the same as the interactive figures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from ....workers.protocol import Evaluation
from ...evolution.candidate import BASELINE_ID
from ...results.confirmation import Confirmation
from ...results.edits.edit_kind_totals import EditKindTotals
from ...results.leaderboard_rows import BaselineSummary
from ...results.learning_curve import validation_points
from ...results.trust.prediction_calibration import CheckedPrediction
from .plot_style import BLUE, GRAY, LIGHT_GRAY, ORANGE, SERIES_COLORS
from .prediction_figure import loss_limits
from .static_style import legend_above, new_axes
from .training_points import Point, best_so_far, group_points, loss_range

if TYPE_CHECKING:  # loads matplotlib
    from matplotlib.figure import Figure

__all__ = ["confirmation_plot", "curve_plot", "kinds_plot", "prediction_plot", "progress_plot"]


def progress_plot(points: Sequence[Point], baseline: BaselineSummary) -> Figure | None:
    """Draw the loss of every training, the best so far, and the baseline; None without a training."""
    if not points:
        return None
    stopped, full, controls = group_points(points)
    end = max(point.minutes for point in points)
    figure, axes = new_axes(8.0, 4.4)
    if baseline.loss_nats is not None:
        spread = baseline.spread_nats or 0.0
        axes.axhspan(baseline.loss_nats - spread, baseline.loss_nats + spread, color=ORANGE, alpha=0.14, lw=0)
        axes.axhline(baseline.loss_nats, color=ORANGE, lw=1.2, ls=":", label="the baseline's mean and spread")
    for chosen, name, color, marker in (
        (stopped, "stopped at a hurdle (less training)", LIGHT_GRAY, "x"),
        (full, "full training", BLUE, "o"),
        (controls, "the baseline's own trainings", ORANGE, "D"),
    ):
        if chosen:
            xs, ys = [point.minutes for point in chosen], [point.loss_nats for point in chosen]
            axes.scatter(xs, ys, s=18, color=color, marker=marker, linewidths=1.0, label=name, zorder=3)
    line = best_so_far(full, controls, baseline, end)
    axes.step([x for x, _ in line], [y for _, y in line], where="post", color=BLUE, lw=2, label="best so far")
    shown = loss_range(full, controls, stopped)
    if shown is not None:
        axes.set_ylim(*shown)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of search")
    axes.set_ylabel("validation loss, nats per token")
    legend_above(figure, axes)
    return figure


def curve_plot(trainings: Mapping[str, Sequence[Evaluation]]) -> Figure | None:
    """Draw the validation losses of trainings over their steps, one color for each program; None without a loss."""
    figure, axes = new_axes(6.4, 4.2)
    steps: set[int] = set()
    styles = cycle(((ORANGE, ":", "D"), (BLUE, "-", "o"), (SERIES_COLORS[4], "--", "s")))
    for (name, evaluations), (color, line, marker) in zip(trainings.items(), styles, strict=False):
        curves = [points for each in evaluations if (points := validation_points(each))]
        for place, points in enumerate(curves):
            label = (f"{name} ({len(curves)} trainings)" if len(curves) > 1 else name) if place == 0 else None
            xs, ys = [at for at, _ in points], [loss for _, loss in points]
            axes.plot(xs, ys, color=color, ls=line, marker=marker, ms=3.5, lw=1.4, label=label)
            steps |= set(xs)
    if not steps:
        return None
    axes.set_xscale("log")
    axes.set_xticks(sorted(steps)[-6:], [f"{step:,}" for step in sorted(steps)[-6:]])
    axes.minorticks_off()
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation loss, nats per token")
    legend_above(figure, axes)
    return figure


def confirmation_plot(confirmed: Sequence[Confirmation]) -> Figure | None:
    """Draw the differences of the retrained programs to the baseline, with intervals; None without such programs."""
    rows = [row for row in confirmed if row.difference is not None and row.candidate_id != BASELINE_ID]
    if not rows:
        return None
    views = list(dict.fromkeys(view for row in rows for view in row.views))
    figure, axes = new_axes(7.0, 1.6 + 0.5 * len(rows))
    axes.axvline(0.0, color=GRAY, lw=1.2, ls=":")
    for place, (view, color, marker) in enumerate(zip(views, (BLUE, ORANGE), "so", strict=False)):
        shift = (place - (len(views) - 1) / 2) * 0.24
        for number, row in enumerate(rows):
            estimate = row.views.get(view)
            if estimate is not None:
                label = (view or "difference") if number == 0 else None
                half = None if estimate.half_width is None else [estimate.half_width]
                axes.errorbar(
                    [estimate.mean], [number + shift], xerr=half, color=color, fmt=marker, ms=6, capsize=3, label=label
                )
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test loss minus the baseline's, bits per byte, 95%")
    legend_above(figure, axes)
    return figure


def prediction_plot(checked: Sequence[CheckedPrediction]) -> Figure | None:
    """Draw predicted against reached losses, one color for each stop; None without predictions."""
    if not checked:
        return None
    low, high = loss_limits(checked)
    figure, axes = new_axes(5.6, 5.2)
    axes.plot([low, high], [low, high], color=GRAY, lw=1.2, ls=":")
    shares = sorted({each.share for each in checked})
    for share, color, marker in zip(shares, cycle((ORANGE, BLUE, *SERIES_COLORS[3:])), cycle("osD^"), strict=False):
        here = [each for each in checked if each.share == share]
        axes.errorbar(
            [each.predicted.mean for each in here],
            [each.reached_nats for each in here],
            xerr=[2.0 * each.predicted.sd for each in here],
            fmt=marker,
            ms=4,
            color=color,
            ecolor=LIGHT_GRAY,
            elinewidth=0.8,
            label=f"predicted at {share:.0%} of the budget",
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_xlabel("predicted final loss, nats per token")
    axes.set_ylabel("reached final loss, nats per token")
    legend_above(figure, axes, columns=1)
    return figure


def kinds_plot(totals: Sequence[EditKindTotals]) -> Figure | None:
    """Draw the outcomes of the new programs, one bar for each kind of edit; None without edits."""
    if not totals:
        return None
    figure, axes = new_axes(7.4, 1.4 + 0.3 * len(totals))
    kinds = [each.kind for each in totals]
    ends = [0] * len(totals)
    for name, counts, color, hatch in (
        ("improved on its parent", [each.improved for each in totals], BLUE, ""),
        ("trained in full, not improved", [each.full - each.improved for each in totals], "white", "////"),
        ("stopped at a hurdle", [each.stopped for each in totals], "#dfe3e8", ""),
        ("failed or without a result", [each.failed + each.waiting for each in totals], "white", "xxxx"),
    ):
        if any(counts):
            axes.barh(
                kinds, counts, left=ends, color=color, hatch=hatch, edgecolor=GRAY, lw=0.5, height=0.62, label=name
            )
        ends = [end + count for end, count in zip(ends, counts, strict=True)]
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("new programs")
    legend_above(figure, axes)
    return figure
