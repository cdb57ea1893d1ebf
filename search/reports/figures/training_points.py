"""The trainings of a run as points of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        stopped = result.kind == "stopped_at_hurdle"
        loss = result.hurdle_losses[-1] if stopped and result.hurdle_losses else result.loss_nats
        if loss is not None and result.kind in ("ok", "stopped_at_hurdle"):
            at = active_seconds(sessions, trial.sequence, trial.wall_time)
            points.append(Point(at / 60.0, trial.candidate_id, loss, len(result.hurdle_losses) if stopped else None))
    return points
