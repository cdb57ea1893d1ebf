"""Recorded trainings, from which simulated trainings are drawn.

benchmarks/distill_tape.py made `recorded_trainings.json` from the tape, a recording of complete trainings
(docs/discovery.md): 406 children of the `laptop` search and 8 trainings of its baseline, each with its losses during
the training.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["RecordedTraining", "Recording", "load_recording"]


@dataclass(frozen=True, slots=True)
class RecordedTraining:
    """One training.

    Attributes:
        kind: `baseline`; `live`, a mutation of live code; `paper`, one of the paper's mutations; `merge`; or `other`, a
            merge of which only the curve is used.
        outcome: `ok`, or the fault that the training ended with (see `OUTCOME_ADVICE`).
        parent_gain: gain of its (first) parent over the baseline, in nats per token.
        effect: its sum of effects (see `true_programs`) minus the parent's, in nats; higher is better. For a merge,
            minus the sum of its parts: both parents' sums minus that of their common edits. None for a fault and for
            `other`.
        log_price_change: the same difference for the logarithm of the step time; None for `other`.
        reached: share of the budget at which a fault ended the training; 1 for `ok`.
        shares, losses: shares of the budget, and the losses there in nats per token; the last is the final loss.
        compile_seconds, probe_seconds, evaluate_seconds: time of the phases other than training.
    """

    kind: str
    outcome: str
    parent_gain: float
    effect: float | None
    log_price_change: float | None
    reached: float
    shares: tuple[float, ...]
    losses: tuple[float, ...]
    compile_seconds: float
    probe_seconds: float
    evaluate_seconds: float


@dataclass(frozen=True, slots=True)
class Recording:
    """All recorded trainings.

    Attributes:
        baseline_loss: loss of the baseline in nats per token.
        step_ms: milliseconds of the baseline's step.
        step_flops, step_bytes, step_transcendentals: operation counts of the baseline's step.
        children: trainings of children, including those that ended with a fault.
        curves: complete trainings, including the baseline's, sorted by final loss.
        finals: final losses of `curves`.
    """

    baseline_loss: float
    step_ms: float
    step_flops: float
    step_bytes: float
    step_transcendentals: float
    children: tuple[RecordedTraining, ...]
    curves: tuple[RecordedTraining, ...]
    finals: np.ndarray


@cache
def load_recording() -> Recording:
    """Return the trainings in `recorded_trainings.json`."""
    facts = json.loads(Path(__file__).with_name("recorded_trainings.json").read_text(encoding="utf-8"))
    trainings = [RecordedTraining(**_with_tuples(each)) for each in facts["trainings"]]
    curves = sorted((each for each in trainings if each.outcome == "ok"), key=lambda each: each.losses[-1])
    return Recording(
        **facts["baseline"],
        children=tuple(each for each in trainings if each.kind != "baseline"),
        curves=tuple(curves),
        finals=np.array([each.losses[-1] for each in curves]),
    )


def _with_tuples(values: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
