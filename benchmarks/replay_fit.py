"""The predictor of final losses (`search/guided/extrapolation.py`), fitted for all replays at once.

A replay fits the predictor again when trainings have finished. All replays (200 by default) advance together, child by
child, so their fits are one computation over arrays [replay, training]. A test compares it with the search's predictor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from primer_search.search.guided.extrapolation import COEFFICIENT_MEANS, COEFFICIENT_SD, NOISE_SD, NOISE_WEIGHT

__all__ = ["BatchFit", "fit_batch"]

ROUNDS = 10


@dataclass(frozen=True, slots=True)
class BatchFit:
    """Models of one point of the training, one for each replay: `final = offset + weights . (value, slope)`.

    Attributes:
        offsets: [replay] constants.
        weights: [replay, 2] weights of value and slope.
        sds: [replay] standard deviations of the prediction for a training with average losses.
    """

    offsets: np.ndarray
    weights: np.ndarray
    sds: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the predicted final loss for value and slope, [replay, 2]."""
        return self.offsets + (self.weights * features).sum(axis=1)


def fit_batch(features: np.ndarray, finals: np.ndarray, known: np.ndarray, freedom: float) -> BatchFit:
    """Fit the models.

    Args:
        features: [replay, training, 2] values and slopes.
        finals: [replay, training] final losses.
        known: mask of the trainings that finished.
        freedom: degrees of freedom of the noise's t distribution, in which outliers count less; infinite for normal
            noise.
    """
    values, slopes = (np.where(known, features[..., place], 0.0) for place in (0, 1))
    remaining = np.where(known, finals, 0.0) - values
    count = np.maximum(known.sum(axis=1), 1)
    weights, noise = known.astype(float), np.full(len(count), NOISE_SD**2)
    coefficients = offsets = np.zeros((len(count), 2))
    for _ in range(ROUNDS):
        centres = [_mean(weights, each) for each in (values, slopes, remaining)]
        x, y, r = (each - mean[:, None] for each, mean in zip((values, slopes, remaining), centres, strict=True))
        b, c = _coefficients(weights, x, y, r, noise)
        squares = (r - b[:, None] * x - c[:, None] * y) ** 2
        noise = ((weights * squares).sum(axis=1) + NOISE_WEIGHT * NOISE_SD**2) / (count + NOISE_WEIGHT)
        if np.isfinite(freedom):
            weights = known * (freedom + 1.0) / (freedom + squares / noise[:, None])
        coefficients, offsets = np.stack([1.0 + b, c], axis=1), centres[2] - b * centres[0] - c * centres[1]
    return BatchFit(offsets, coefficients, np.sqrt(noise * (1.0 + 1.0 / count)))


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (weights * values).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)


def _coefficients(
    weights: np.ndarray, x: np.ndarray, y: np.ndarray, r: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior means of both weights: two equations for each replay, solved by Cramer's rule."""
    precision = noise / COEFFICIENT_SD**2
    xw, yw = weights * x, weights * y
    xx, xy, yy = (xw * x).sum(axis=1) + precision, (xw * y).sum(axis=1), (yw * y).sum(axis=1) + precision
    xr = (xw * r).sum(axis=1) + precision * COEFFICIENT_MEANS[0]
    yr = (yw * r).sum(axis=1) + precision * COEFFICIENT_MEANS[1]
    determinant = xx * yy - xy**2
    return (yy * xr - xy * yr) / determinant, (xx * yr - xy * xr) / determinant
