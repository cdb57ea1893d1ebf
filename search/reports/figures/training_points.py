"""The trainings of a run as points of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...evolution.candidate import reached_loss
from ...runs.time_accounting import active_seconds, find_sessions
from .run_figure import Point

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["training_points"]


def training_points(store: StoreReader) -> list[Point]:
    """Return the trainings with a loss, at the time when their results arrived."""
    sessions = find_sessions(store.events())
    points = []
    for trial in store.evaluations():
        result = trial.evaluation
        if (loss := reached_loss(result)) is not None:
            at = active_seconds(sessions, trial.sequence, trial.wall_time)
            hurdle = len(result.hurdle_losses) if result.kind == "stopped_at_hurdle" else None
            points.append(Point(at / 60.0, trial.candidate_id, loss, hurdle))
    return points
