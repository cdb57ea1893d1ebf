"""The stop rule of the guided search: a training stops when it will hardly be among the best.

Every training is evaluated at fixed shares of its budget. At some of them its final fitness is predicted
(`extrapolation`), and it stops if the prediction will hardly reach a target: the best quarter of the run so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ...workers.protocol import HurdleThreshold
from .extrapolation import LossPredictor

__all__ = ["MINIMUM_TRAININGS", "POINTS", "STOPS", "UNSTOPPED_SHARE", "stop_thresholds", "target_fitness"]

POINTS = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Shares of the budget at which every training is evaluated; the slope to the end prices steps."""

STOPS = {1: 0.1, 2: 0.3, 3: 0.5}
"""Places in `POINTS` at which a training stops if its probability to reach the target is lower than this."""

TARGET_SHARE = 0.25
"""A training must have a chance to be among this share of the best candidates so far."""

MINIMUM_TRAININGS = 6
"""Finished trainings before any is stopped."""

UNSTOPPED_SHARE = 1 / 15
"""Share of candidates that train to the end regardless of their prediction, so that the prediction stays unbiased."""


def target_fitness(baseline_loss: float, posteriors: Sequence[float]) -> float:
    """Return the fitness that a training must be able to reach, in nats per token.

    Args:
        baseline_loss: mean loss of the baseline, in nats per token.
        posteriors: expected fitness of all candidates, relative to the baseline.
    """
    return baseline_loss + float(np.quantile(posteriors, TARGET_SHARE))


def stop_thresholds(
    budget: float, target: float | None, predictor: LossPredictor, slope: float
) -> tuple[HurdleThreshold, ...]:
    """Return the evaluation points of a trial, with the predicted fitness above which it stops.

    Args:
        budget: budget of the trial.
        target: fitness that the training must be able to reach; None: it is not stopped.
        predictor: predicts final losses.
        slope: price of a step, in nats per unit of log time.
    """
    points = []
    for place, share in enumerate(POINTS):
        at = round(budget * share)
        model = predictor.model(place) if place in STOPS else None
        if model is None or target is None:
            points.append(HurdleThreshold(at, None))
            continue
        limit = target - NormalDist().inv_cdf(STOPS[place]) * model.typical_sd
        points.append(HurdleThreshold(at, limit, model.weights, model.offset, slope))
    return tuple(points)
