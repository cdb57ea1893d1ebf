"""Prediction of the final loss from earlier losses: rank correlation, error, and calibration of the intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.record_tape import POINTS
from primer_search.search.guided.extrapolation import LossPredictor

__all__ = ["Prediction", "kendall", "leave_one_out", "prediction_rows"]

QUANTILE = 1.2816
"""Distance of a normal distribution's 10% quantile below its mean, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Quality of the predictions at one point.

    Attributes:
        share: share of the budget at the point.
        features: `value`, or `value and slope`, of the validation loss; or the same of the training loss.
        children: `all`, or `better half` by the final loss.
        tau: Kendall's rank correlation of prediction and final loss.
        error: root mean square error in nats, leave one out.
        median_error: median absolute error in nats.
        within: share of final losses within one predicted standard deviation; 0.68 if calibrated.
        below: share of final losses below the predicted 10% quantile; 0.10 if calibrated.
    """

    share: float
    features: str
    children: str
    tau: float
    error: float
    median_error: float
    within: float
    below: float


def prediction_rows(losses: np.ndarray, training: np.ndarray) -> list[Prediction]:
    """Return the quality at each point before the end.

    Args:
        losses: [child, point] validation losses of complete trainings.
        training: [child, point] their training losses.
    """
    finals, rows = losses[:, -1], []
    half = finals <= np.median(finals)
    for point, share in enumerate(POINTS[:-1]):
        seen = {"value": losses[:, point : point + 1]}
        if point:
            seen["value and slope"] = losses[:, point - 1 : point + 1]
            seen["training loss and slope"] = training[:, point - 1 : point + 1]
        for features, values in seen.items():
            if not np.isfinite(values).all():
                continue
            means, sds = leave_one_out(values, finals)
            for children, chosen in (("all", np.ones_like(half)), ("better half", half)):
                quality = _quality(means[chosen], sds[chosen], finals[chosen])
                rows.append(Prediction(share, features, children, *quality))
    return rows


def leave_one_out(values: np.ndarray, finals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each final loss, predicted by a model of all other trainings.

    Args:
        values: [training, 1 or 2] losses at one point, or at the point before and this one.
        finals: final losses.
    """
    means, sds = np.empty_like(finals), np.empty_like(finals)
    for left in range(len(finals)):
        predictor = LossPredictor(values.shape[1])
        for place in range(len(finals)):
            if place != left:
                predictor.record(values[place], finals[place])
        model = predictor.model(values.shape[1] - 1)
        assert model is not None
        predicted = model.predict(values[left])
        means[left], sds[left] = predicted.mean, predicted.sd
    return means, sds


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """Return Kendall's rank correlation of two vectors without ties (tau-a).

    >>> kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    products = np.sign(np.subtract.outer(one, one)) * np.sign(np.subtract.outer(other, other))
    return float(products.sum() / max(len(one) * (len(one) - 1), 1))


def _quality(means: np.ndarray, sds: np.ndarray, finals: np.ndarray) -> tuple[float, ...]:
    errors = finals - means
    return (
        kendall(means, finals),
        float(np.sqrt(np.mean(errors**2))),
        float(np.median(np.abs(errors))),
        float(np.mean(np.abs(errors) < sds)),
        float(np.mean(errors < -QUANTILE * sds)),
    )
