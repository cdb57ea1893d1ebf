"""Settings of one long training: learning rate over the budget, evaluations, and the file of the learning curve."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...primitives.errors import UsageError

__all__ = ["CURVE", "CurvePoint", "TrainingSettings", "UnusableState", "cosine_decay", "curve_text"]

CURVE = "curve.json"
"""File of the learning curve, in the folder of the saved states and next to the weights."""

CurvePoint = tuple[float, int, float]
"""Budget spent, steps, loss in nats."""


class UnusableState(UsageError):
    """A training cannot be continued: its state is damaged, or its data, initial weights or this package changed."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings that a long training has in addition to those of a trial.

    Attributes:
        seed: random seed of the parameters and of the order of the text.
        final_rate: learning rate at the end, as a share of the peak, after a cosine decay over the budget; 1: no decay.
        save_seconds: wall clock between two saved states.
        evaluations: largest number of evaluations, evenly spaced in the budget.
        allowance_seconds: seconds charged for a step of the baseline, for budgets in reference seconds.
        suspicious_nats: validation loss below which the model is probed on more text; None: no bound.
    """

    seed: int = 0
    final_rate: float = 1.0
    save_seconds: float = 300.0
    evaluations: int = 20
    allowance_seconds: float | None = None
    suspicious_nats: float | None = None


def cosine_decay(share: float, final: float) -> float:
    """Return the factor of the learning rate after a share of the budget: it falls from 1 to `final` as half a cosine.

    >>> [cosine_decay(share, 0.1) for share in (0.0, 0.5, 1.0, 2.0)]
    [1.0, 0.55, 0.1, 0.1]
    """
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def curve_text(unit: str, budget: float, curve: Sequence[CurvePoint], validation: Sequence[CurvePoint]) -> str:
    """Return the training and validation curves as JSON text: lists of points [budget spent, steps, loss in nats]."""
    return json.dumps({"unit": unit, "budget": budget, "training": curve, "validation": validation}) + "\n"
