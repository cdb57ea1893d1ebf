"""The stop rule of the guided search: a training is stopped when it is unlikely to be among the best.

Every training is evaluated at fixed shares of its budget. At some of them its final fitness is predicted
(`extrapolation`). The training is stopped if it is unlikely to reach the target, the best quarter of the run so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ...workers.protocol import HurdleThreshold
from .extrapolation import LossPredictor

__all__ = ["MINIMUM_TRAININGS", "POINTS", "STOPS", "UNSTOPPED_SHARE", "stop_thresholds", "target_fitness"]

POINTS = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Shares of the budget at which every training is evaluated. The decrease of the baseline's loss from the last point to
the end determines the price of slower steps."""

STOPS = {1: 0.1, 2: 0.3, 3: 0.5}
"""Indices of `POINTS`, each with the probability of reaching the target below which a training is stopped there."""

TARGET_SHARE = 0.25
"""The target is the fitness of the worst candidate in this best share of the candidates so far."""

MINIMUM_TRAININGS = 6
"""Finished trainings before the first one may be stopped."""

UNSTOPPED_SHARE = 1 / 15
"""Share of candidates that are never stopped, so that the predictor is also fitted to weak candidates."""


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
        target: fitness that the training must be able to reach; None: the training is not stopped.
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
