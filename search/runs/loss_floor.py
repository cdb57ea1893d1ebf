"""Too good to be true: the loss below which a result is quarantined and rechecked before it may count.

Two bounds, both of the run's own: an envelope, which continues the baseline's learning curve to several times the
budget (a block that learns as much in the budget as the baseline would in eight of them is beyond anything published:
Primer's largest speedup is 4.2), and the loss of an n-gram model, where the baseline itself does not reach that. Honest
results may fall below either; then the recheck clears them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ...workers.protocol import Evaluation

__all__ = ["ENVELOPE_SPEEDUP", "envelope_nats", "loss_floor_nats"]

ENVELOPE_SPEEDUP = 8.0
"""Times the budget to which the baseline's curve is continued."""

TAIL = 0.1
"""Part of the budget from which on the curve is taken as a power law; before it, the warm-up bends it."""

STEEPEST = 0.5
"""The largest exponent believed of a noisy curve."""


def loss_floor_nats(baseline: Sequence[Evaluation], ngram_nats: float | None) -> float | None:
    """The loss below which a candidate is suspected; None before the baseline has a result.

    Args:
        baseline: full trials of the baseline.
        ngram_nats: loss of an n-gram model on the same validation text, if known.
    """
    losses = [trial.loss_nats for trial in baseline if trial.loss_nats is not None]
    envelope = envelope_nats(baseline)
    if envelope is None or not losses:
        return None
    if ngram_nats is not None and ngram_nats < fmean(losses):
        return max(envelope, ngram_nats)
    return envelope


def envelope_nats(baseline: Sequence[Evaluation], speedup: float = ENVELOPE_SPEEDUP) -> float | None:
    """The loss that the baseline's learning curve, loss = a * spent^-b, reaches at `speedup` times the budget."""
    losses = [trial.loss_nats for trial in baseline if trial.loss_nats is not None]
    if not losses:
        return None
    exponents = [exponent for trial in baseline if (exponent := _exponent(trial)) is not None]
    return fmean(losses) * speedup ** -(fmean(exponents) if exponents else STEEPEST)


def _exponent(trial: Evaluation) -> float | None:
    """b of the tail of a curve of training losses; None where it is too short for a fit."""
    if not trial.curve:
        return None
    points = np.array([(spent, loss) for spent, _, loss in trial.curve if spent >= TAIL * trial.curve[-1][0]])
    points = points[(points > 0).all(axis=1)]
    if len(points) < 3:
        return None
    slope = np.polyfit(np.log(points[:, 0]), np.log(points[:, 1]), 1)[0]
    return float(np.clip(-slope, 0.0, STEEPEST))
