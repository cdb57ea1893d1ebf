"""Prediction of the loss at the end of training from the losses so far, fitted to the finished trainings of the run.

At each evaluation point, the change from the current loss to the final loss is a linear function of the value, which is
the current loss, and of the slope, which is the change since the previous point:

    final = value + a + b * (value - its mean) + c * (slope - its mean) + noise

Some programs, such as those with convolutions, learn slowly at first and have a steep slope later. A rule that uses
only the value stops them (docs/discovery.md). `b` and `c` have a normal prior, which dominates while few trainings have
finished. The noise is estimated from the residuals. It has a t distribution, so that a training that diverges late does
not widen the intervals of all others. The standard deviation of a prediction includes the uncertainty of the
coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .linear_model import OUTLIERS, Normal, fit_linear_model

__all__ = ["LossPredictor", "PointModel"]

COEFFICIENT_MEANS = (0.0, 1.0)
"""Prior means of `b` and `c`: losses keep their differences, and change again by as much as since the last point."""

COEFFICIENT_SD = 0.5
"""Prior standard deviation of `b` and `c`."""

NOISE_SD = 0.05
"""Prior standard deviation of the noise, in nats; it counts as `NOISE_WEIGHT` trainings."""

NOISE_WEIGHT = 3

INTERCEPT_SD = 10.0
"""Prior standard deviation of `a`; it is so large that the data determine `a` from the first training on."""


@dataclass(frozen=True, slots=True)
class PointModel:
    """The fitted model of one evaluation point: `final = value + intercept + coefficients . (features - means)`.

    Attributes:
        intercept: change from the loss at this point to the final loss, for a training with average features.
        coefficients: coefficients of the value and the slope; at the first point, of the value only.
        means: means of these features.
        noise_sd: standard deviation of the residuals, in nats.
        covariance: covariance of the coefficients.
        trainings: number of finished trainings that it is fitted to.
    """

    intercept: float
    coefficients: tuple[float, ...]
    means: tuple[float, ...]
    noise_sd: float
    covariance: np.ndarray
    trainings: int

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the last losses in the predicted final loss, the weight of the latest loss last."""
        if len(self.coefficients) == 1:
            return (1.0 + self.coefficients[0],)
        value, slope = self.coefficients
        return (-slope, 1.0 + value + slope)

    @property
    def offset(self) -> float:
        """Constant term of the predicted final loss, in nats."""
        return self.intercept - float(np.dot(self.coefficients, self.means))

    @property
    def typical_sd(self) -> float:
        """Standard deviation of the prediction for a training of average losses."""
        return self.noise_sd * math.sqrt(1.0 + 1.0 / self.trainings)

    def predict(self, losses: Sequence[float]) -> Normal:
        """Predict the final loss of a training from its losses at the points up to this one."""
        features = np.array(_features(losses)) - self.means
        mean = losses[-1] + self.intercept + float(features @ self.coefficients)
        variance = self.noise_sd**2 * (1.0 + 1.0 / self.trainings) + float(features @ self.covariance @ features)
        return Normal(mean, math.sqrt(variance))


class LossPredictor:
    """Predicts final losses at the evaluation points of a trial.

    Args:
        points: number of points before the end.
    """

    def __init__(self, points: int):
        self._losses: list[list[tuple[float, ...]]] = [[] for _ in range(points)]
        self._finals: list[float] = []
        self._models: dict[int, PointModel] = {}

    @property
    def trainings(self) -> int:
        """Number of finished trainings so far."""
        return len(self._finals)

    def record(self, losses: Sequence[float], final: float) -> None:
        """Add a finished training: its losses at all points, and at the end."""
        for point, seen in enumerate(self._losses):
            seen.append(tuple(losses[: point + 1]))
        self._finals.append(final)
        self._models.clear()

    def model(self, point: int) -> PointModel | None:
        """Return the model of a point (from 0); None before the first finished training."""
        if not self._finals:
            return None
        if point not in self._models:
            self._models[point] = _fit(self._losses[point], self._finals)
        return self._models[point]


def _features(losses: Sequence[float]) -> tuple[float, ...]:
    return (losses[-1],) if len(losses) == 1 else (losses[-1], losses[-1] - losses[-2])


def _fit(losses: Sequence[Sequence[float]], finals: Sequence[float]) -> PointModel:
    """Return the model of a point, fitted to the losses and the final losses of the finished trainings."""
    features = np.array([_features(each) for each in losses])
    remaining = np.array(finals) - features[:, 0]
    means = features.mean(axis=0)
    prior = [
        Normal(float(remaining.mean()), INTERCEPT_SD),
        *(Normal(mean, COEFFICIENT_SD) for mean in COEFFICIENT_MEANS[: features.shape[1]]),
    ]
    rows = np.column_stack([np.ones(len(finals)), features - means])
    fitted = fit_linear_model(rows, remaining, prior, NOISE_SD, NOISE_WEIGHT, OUTLIERS)
    intercept, *coefficients = map(float, fitted.coefficients)
    return PointModel(
        intercept, tuple(coefficients), tuple(map(float, means)), fitted.noise_sd, fitted.covariance[1:, 1:],
        len(finals),
    )  # fmt: skip
