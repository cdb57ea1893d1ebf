"""Linear regression with a normal prior of the coefficients, and noise estimated from the residuals.

Reference: Bishop 2006, "Pattern Recognition and Machine Learning", section 3.3; the noise is a point estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LinearModel", "Normal", "fit_linear_model"]

_ROUNDS = 5


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
        noise_sd: standard deviation of the noise.
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
    features: np.ndarray, targets: np.ndarray, prior: Sequence[Normal], noise_sd: float, noise_weight: float
) -> LinearModel:
    """Fit a model.

    Args:
        features: matrix [observations, features]; it may have no rows.
        targets: vector [observations].
        prior: distribution of each coefficient before the data.
        noise_sd: prior guess of the noise.
        noise_weight: number of observations that the guess counts for.
    """
    means = np.array([each.mean for each in prior])
    precisions = np.array([each.sd**-2 for each in prior])
    noise, coefficients, covariance = noise_sd**2, means, np.diag(1.0 / precisions)
    for _ in range(_ROUNDS):  # the coefficients and the noise depend on each other
        covariance = np.linalg.inv(features.T @ features / noise + np.diag(precisions))
        coefficients = covariance @ (features.T @ targets / noise + precisions * means)
        residuals = targets - features @ coefficients
        noise = float(residuals @ residuals + noise_weight * noise_sd**2) / (len(targets) + noise_weight)
    return LinearModel(coefficients, covariance, math.sqrt(noise))
