"""Rows of the run store as objects, and the strict JSON of their values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from ...primitives.errors import WorkFailedError
from ...workers.protocol import Evaluation

__all__ = [
    "END_STATUS",
    "EVENT_KINDS",
    "REPAIRED",
    "Ancestor",
    "Event",
    "FinishedTrial",
    "from_json",
    "storable",
    "to_json",
]

REPAIRED = "repaired"

EVENT_KINDS = {
    "run_started": "the run began; payload may give `workers`",
    "run_resumed": "a later process resumed the run; payload may give `workers`",
    "proposed": "a candidate was proposed; payload: statistics of its proposal (totals, and by kind of edit), its "
    "edits, and the parents of a merge",
    "started": "a trial was handed to a worker; payload: its random seed",
    "evaluated": "a trial ended with an evaluation; payload: outcome and loss_nats",
    "reused": "a candidate shares the evaluation of an equivalent candidate; payload: same_as",
    "cancelled": "a trial was cancelled without a result; payload: why",
    "worker_lost": "a trial's worker died; payload: message",
    "run_stopped": "the run was stopped before its budget was spent",
    "run_ended": "the run spent its budget",
    "calibrated": "the baseline's step was timed; payload: allowance_seconds, the reference seconds of one step",
    "confirmed": "a candidate was retrained and scored on the test text",
    "retrained_at_scale": "a candidate was retrained at another scale and scored on the test text; payload: the scale",
    REPAIRED: "the store was repaired; payload: numbers of the lost candidates, trials and events",
    "note": "a remark that does not affect the search; payload: why",
}
"""Description of each kind of event. A new kind is a new row; the meaning of a kind never changes."""

END_STATUS = {"evaluated": "finished", "cancelled": "cancelled", "worker_lost": "lost"}
"""Status of a trial after the event that ended it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run.

    Attributes:
        sequence: number of the event, from 1, in order of arrival.
        wall_time: controller's clock in seconds since the epoch; it can be set back, so order by `sequence`.
        kind: key of `EVENT_KINDS`.
        candidate_id, trial_id: candidate and trial of the event, or None.
        payload: JSON values by name.
    """

    sequence: int
    wall_time: float
    kind: str
    candidate_id: int | None
    trial_id: int | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """Evaluation of a trial, with the number and time of its event."""

    sequence: int
    wall_time: float
    trial_id: int
    candidate_id: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Ancestor:
    """Candidate without its DNA, which is slow to parse and which lineages and tables do not need.

    Attributes:
        edits: all edits of a merge, or of a revert, which removes an edit of its parent (see `results.lineage`); None
            for others, which have the edits of their parent and their own.
        merged_with: second parent of a merge; None for other candidates.
    """

    id: int
    parent: int | None
    mutations: tuple[str, ...]
    structure_hash: str
    same_as: int | None
    edits: tuple[int, ...] | None = None
    merged_with: int | None = None


def from_json(text: str) -> Any:
    """Return the value of JSON text of a store.

    Raises:
        WorkFailedError: the text is not JSON, so the store is damaged.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise WorkFailedError(
            f"a row of the store is damaged ({error}): `primer-search repair RUN` recovers what can be read"
        ) from error


def to_json(value: Any) -> str:
    """Return strict JSON of plain values and NumPy scalars; NaN and infinities become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):  # rare; too slow for every curve of hundreds of points
        return json.dumps(_json_value(value), allow_nan=False, separators=(",", ":"))


def storable(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation without NaN and infinities.

    Such a loss becomes None. The hurdle losses end before the first such value, and the curve loses such points.
    """
    loss = evaluation.loss_nats
    return replace(
        evaluation,
        loss_nats=loss if loss is not None and math.isfinite(loss) else None,
        hurdle_losses=tuple(takewhile(math.isfinite, evaluation.hurdle_losses)),
        curve=tuple(point for point in evaluation.curve if math.isfinite(point[2])),
    )


def _json_value(value: Any) -> Any:
    """Return the value with NumPy scalars as Python numbers, and NaN and infinities as None (JSON has neither)."""
    if hasattr(value, "item") and not isinstance(value, float | Mapping):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _json_value(item) for key, item in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, list | tuple) else value
