"""What the run store's rows are as objects, and the strict JSON their values are kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from ...workers.protocol import Evaluation

__all__ = ["EVENT_KINDS", "Ancestor", "Event", "FinishedTrial", "storable", "to_json"]

EVENT_KINDS = {
    "run_started": "the run began; payload may give `workers`",
    "run_resumed": "a later process took the run up; payload may give `workers`",
    "proposed": "a candidate was made; payload: statistics of its proposal",
    "started": "a trial was handed to a worker; payload: its seed",
    "evaluated": "a trial gave an evaluation; payload: outcome and loss_nats",
    "reused": "a candidate took over the evaluation of the candidate it equals",
    "cancelled": "a trial was given up without a result; payload: why",
    "worker_lost": "a trial's worker died; payload: message",
    "run_stopped": "the run was stopped before its budget was spent",
    "run_ended": "the run spent its budget",
    "calibrated": "the baseline's steps were timed: what a step is worth in reference seconds",
    "confirmed": "a candidate was retrained and scored on the test text",
    "retrained_at_scale": "a candidate was retrained at another scale and scored on the test text; payload: the scale",
    "note": "anything worth keeping that changes nothing",
}
"""Every kind of event, and what it says. Adding a kind is adding a row; its meaning never changes afterwards."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run.

    Attributes:
        sequence: its number, from 1, in order of arrival.
        wall_time: seconds since the epoch, by the controller's clock (which may be set back: order by `sequence`).
        kind: a key of `EVENT_KINDS`.
        candidate_id, trial_id: what it is about, if anything.
        payload: JSON values.
    """

    sequence: int
    wall_time: float
    kind: str
    candidate_id: int | None
    trial_id: int | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """A trial's evaluation, and the event with which it arrived."""

    sequence: int
    wall_time: float
    trial_id: int
    candidate_id: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A candidate without its DNA, which is slow to parse: enough for ancestry and tables."""

    id: int
    parent: int | None
    mutations: tuple[str, ...]
    structure_hash: str
    same_as: int | None


def to_json(value: Any) -> str:
    """Strict JSON text of plain values, NumPy scalars among them; numbers that are none become null."""
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def storable(evaluation: Evaluation) -> Evaluation:
    """The evaluation without numbers that are none: absent where that can be said, else the series ends or skips."""
    loss = evaluation.loss_nats
    return replace(
        evaluation,
        loss_nats=loss if loss is not None and math.isfinite(loss) else None,
        hurdle_losses=tuple(takewhile(math.isfinite, evaluation.hurdle_losses)),
        curve=tuple(point for point in evaluation.curve if math.isfinite(point[2])),
    )


def _finite(value: Any) -> Any:
    """The value with NumPy scalars made plain, and numbers that are none made null: JSON has no NaN."""
    if hasattr(value, "item") and not isinstance(value, float | Mapping):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
