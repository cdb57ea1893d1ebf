"""Linear regression with a normal prior of the coefficients, and noise estimated from the residuals.

The noise is normal, or has a t distribution, in which outliers count less. Searches have such outliers: trainings that
diverge late, and timings on a busy core. With normal noise, outliers widen the intervals of all other predictions.

References: for the regression, Bishop 2006, "Pattern Recognition and Machine Learning", section 3.3, with a point
estimate of the noise; for the weights of outliers, Lange, Little & Taylor 1989, "Robust statistical modeling using the
t distribution".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["OUTLIERS", "LinearModel", "Normal", "fit_linear_model"]

OUTLIERS = 4.0
"""Degrees of freedom of the t distribution, for noise with outliers."""

_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal distribution by its mean and standard deviation."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class LinearModel:
    """The model `target = coefficients . features + noise`.

    Attributes:
        coefficients: posterior means.
        covariance: posterior covariance of the coefficients.
        noise_sd: standard deviation of the noise; its scale if it has a t distribution.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    noise_sd: float

    def predict(self, features: Sequence[float] | np.ndarray) -> Normal:
        """Return the predictive distribution of the target, noise included."""
        row = np.asarray(features, float)
        variance = self.noise_sd**2 + float(row @ self.covariance @ row)
        return Normal(float(row @ self.coefficients), math.sqrt(variance))


def fit_linear_model(
    features: np.ndarray,
    targets: np.ndarray,
    prior: Sequence[Normal],
    noise_sd: float,
    noise_weight: float,
    freedom: float = math.inf,
    precisions: np.ndarray | None = None,
) -> LinearModel:
    """Return the model fitted to observations.

    Args:
        features: matrix [observations, features]; it may have no rows.
        targets: vector [observations].
        prior: distribution of each coefficient before the data.
        noise_sd: prior standard deviation of the noise.
        noise_weight: number of observations that this prior counts as.
        freedom: degrees of freedom of the noise's t distribution; infinite for normal noise.
        precisions: relative precision (1 / variance) of the noise of each observation; None: all 1.
    """
    means = np.array([each.mean for each in prior])
    prior_precisions = np.array([each.sd**-2 for each in prior])
    noise, coefficients, covariance = noise_sd**2, means, np.diag(1.0 / prior_precisions)
    own = np.ones(len(targets)) if precisions is None else precisions
    weights = own
    for _ in range(_ROUNDS):  # the coefficients, the noise and the weights depend on each other
        weighted = weights[:, None] * features
        covariance = np.linalg.inv(weighted.T @ features / noise + np.diag(prior_precisions))
        coefficients = covariance @ (weighted.T @ targets / noise + prior_precisions * means)
        squares = (targets - features @ coefficients) ** 2
        noise = float(weights @ squares + noise_weight * noise_sd**2) / (len(targets) + noise_weight)
        if math.isfinite(freedom):
            weights = own * (freedom + 1.0) / (freedom + own * squares / noise)
    return LinearModel(coefficients, covariance, math.sqrt(noise))
