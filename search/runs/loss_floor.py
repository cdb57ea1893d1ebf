"""Loss floor: a result below it is suspicious, so it is quarantined and rechecked before it counts.

The floor is the higher of two bounds. The envelope is the baseline's loss extrapolated to eight times the budget; a
speedup of eight exceeds all published ones (the largest in the Primer paper is 4.2). The other bound is the loss of an
n-gram model; it counts only if it is below the baseline's loss. A correct result can fall below the floor: then the
recheck clears it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ...workers.protocol import Evaluation

__all__ = ["ENVELOPE_SPEEDUP", "envelope_nats", "loss_floor_nats"]

ENVELOPE_SPEEDUP = 8.0
"""Multiple of the budget to which the baseline's curve is extrapolated."""

TAIL = 0.1
"""Fraction of the budget after which the curve is fitted as a power law; the warm-up distorts the earlier part."""

STEEPEST = 0.5
"""Largest exponent accepted from the fit of a noisy curve."""


def loss_floor_nats(baseline: Sequence[Evaluation], ngram_nats: float | None) -> float | None:
    """Return the loss below which a result is suspicious, or None before the baseline has a result.

    Args:
        baseline: full trials of the baseline program.
        ngram_nats: loss of an n-gram model on the same validation text; None if unknown.
    """
    losses = [trial.loss_nats for trial in baseline if trial.loss_nats is not None]
    envelope = envelope_nats(baseline)
    if envelope is None or not losses:
        return None
    if ngram_nats is not None and ngram_nats < fmean(losses):
        return max(envelope, ngram_nats)
    return envelope


def envelope_nats(baseline: Sequence[Evaluation]) -> float | None:
    """Return the baseline's loss at `ENVELOPE_SPEEDUP` times the budget, extrapolated by loss = a * spent^-b."""
    losses = [trial.loss_nats for trial in baseline if trial.loss_nats is not None]
    if not losses:
        return None
    exponents = [exponent for trial in baseline if (exponent := _exponent(trial)) is not None]
    return fmean(losses) * ENVELOPE_SPEEDUP ** -(fmean(exponents) if exponents else STEEPEST)


def _exponent(trial: Evaluation) -> float | None:
    """Return the exponent b fitted to the tail of a training curve, or None if the tail has under three points."""
    if not trial.curve:
        return None
    points = np.array([(spent, loss) for spent, _, loss in trial.curve if spent >= TAIL * trial.curve[-1][0]])
    points = points[(points > 0).all(axis=1)]
    if len(points) < 3:
        return None
    slope = np.polyfit(np.log(points[:, 0]), np.log(points[:, 1]), 1)[0]
    return float(np.clip(-slope, 0.0, STEEPEST))
