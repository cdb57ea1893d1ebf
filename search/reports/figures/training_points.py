"""The trainings of a run as points of a figure, in three groups, and the best loss so far as a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from ...evolution.candidate import BASELINE_ID, reached_loss
from ...results.leaderboard_rows import BaselineSummary
from ...runs.time_accounting import active_seconds, find_sessions

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["Point", "best_so_far", "falling_steps", "group_points", "loss_range", "training_points"]


@dataclass(frozen=True, slots=True)
class Point:
    """One training with a loss.

    Attributes:
        minutes: minutes of search until its result arrived, without pauses.
        candidate_id: id of the trained candidate.
        loss_nats: loss after the full budget, or at the hurdle that stopped it.
        hurdle: number of the hurdle that stopped the training, from 1; None for a full budget.
    """

    minutes: float
    candidate_id: int
    loss_nats: float
    hurdle: int | None


def training_points(store: StoreReader) -> list[Point]:
    """Return the trainings that have a loss, each at the time when its result arrived."""
    sessions = find_sessions(store.events())
    points = []
    for trial in store.evaluations():
        result = trial.evaluation
        if (loss := reached_loss(result)) is not None:
            at = active_seconds(sessions, trial.sequence, trial.wall_time)
            hurdle = len(result.hurdle_losses) if result.kind == "stopped_at_hurdle" else None
            points.append(Point(at / 60.0, trial.candidate_id, loss, hurdle))
    return points


def group_points(points: Sequence[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    """Return three groups: stopped trainings, full trainings of candidates, and full trainings of the baseline."""
    stopped = [point for point in points if point.hurdle is not None]
    full = [point for point in points if point.hurdle is None and point.candidate_id != BASELINE_ID]
    controls = [point for point in points if point.hurdle is None and point.candidate_id == BASELINE_ID]
    return stopped, full, controls


def best_so_far(
    full: Sequence[Point], controls: Sequence[Point], baseline: BaselineSummary, end: float
) -> list[tuple[float, float]]:
    """Return the best loss so far as the steps of a curve. The baseline counts with its mean, not its best trial."""
    start = [] if baseline.loss_nats is None else [(point.minutes, baseline.loss_nats) for point in controls]
    return falling_steps(sorted([*start, *((point.minutes, point.loss_nats) for point in full)]), end)


def falling_steps(results: Iterable[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the results that are lower than all earlier ones, and the lowest one again at the end of the axis.

    >>> falling_steps([(1.0, 4.0), (2.0, 4.1), (3.0, 3.9)], 5.0)
    [(1.0, 4.0), (3.0, 3.9), (5.0, 3.9)]
    """
    line: list[tuple[float, float]] = []
    for at, loss in results:
        if not line or loss < line[-1][1]:
            line.append((at, loss))
    return [*line, (end, line[-1][1])] if line else []


def loss_range(full: Sequence[Point], controls: Sequence[Point], stopped: Sequence[Point]) -> list[float] | None:
    """Return the range of the loss axis: all full trainings except far outliers, and some stopped ones."""
    losses = [point.loss_nats for point in (*full, *controls)]
    if not losses:
        return None
    low, middle = min(losses), median(losses)
    high = max(loss for loss in losses if loss <= middle + 4 * (middle - low) + 0.05)
    if stopped:
        high = max(high, min(fmean([high, max(point.loss_nats for point in stopped)]), high + 2 * (high - low) + 0.02))
    room = 0.06 * (high - low) + 0.005
    return [low - room, high + room]
