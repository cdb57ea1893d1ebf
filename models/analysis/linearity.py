"""Linearity of a layer: the share of its output's variance that one linear map of its input explains.

Razzhigaev et al. 2024 (arXiv 2405.12250, section 3) center the embeddings X before and Y after a layer, divide them by
their Frobenius norms, and score the layer with 1 - min_A |X A - Y|^2. This is the pooled R^2 of a linear regression.
Their score uses the tokens that A is fitted on, so it is too high. Here A and the means are fitted on one half of a
text and scored on the other half. The score can be negative.

Only the second moments of a text are needed, and the moments of its batches can be added. NumPy computes them in
float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["LinearMap", "Moments", "add_moments", "block_moments", "fit_linear_map", "linearity_score", "moments"]

Matrix = Float[np.ndarray, "inputs outputs"]

CUTOFF = 1e-6
"""Singular values of the centered inputs below this share of the largest are dropped: activations are float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over the tokens of a text, for the inputs x and outputs y of a layer.

    Attributes:
        tokens: number of tokens.
        x_sum, y_sum: sums of x and y, [width].
        xx, xy: sums of the outer products of x with x and with y, [width, width].
        yy: sum of the squared norms of y.
    """

    tokens: int
    x_sum: np.ndarray
    y_sum: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: float


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap:
    """Affine map `x @ matrix + offset`.

    Attributes:
        matrix: [inputs, outputs].
        offset: [outputs].
        rank: number of singular values of the centered inputs that were not dropped.
    """

    matrix: np.ndarray
    offset: np.ndarray
    rank: int


def moments(x: Float[np.ndarray, "tokens inputs"], y: Float[np.ndarray, "tokens outputs"]) -> Moments:
    """Return the moments of a layer's inputs and outputs, in float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return Moments(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y, float(np.sum(y * y)))


def add_moments(first: Moments, second: Moments) -> Moments:
    """Return the moments of two texts together."""
    return Moments(
        first.tokens + second.tokens,
        first.x_sum + second.x_sum,
        first.y_sum + second.y_sum,
        first.xx + second.xx,
        first.xy + second.xy,
        first.yy + second.yy,
    )


def block_moments(layer: Moments) -> Moments:
    """Return the moments of x and y - x: what the block adds to the residual stream."""
    squares = layer.yy - 2.0 * float(np.trace(layer.xy)) + float(np.trace(layer.xx))
    return Moments(layer.tokens, layer.x_sum, layer.y_sum - layer.x_sum, layer.xx, layer.xy - layer.xx, squares)


def fit_linear_map(fitted: Moments) -> LinearMap:
    """Return the affine map with the least squared error on a text; among equals, the map with the smallest matrix."""
    x_mean, y_mean = fitted.x_sum / fitted.tokens, fitted.y_sum / fitted.tokens
    covariance = fitted.xx - fitted.tokens * np.outer(x_mean, x_mean)
    squares, directions = np.linalg.eigh(covariance)  # squares of the singular values
    kept = squares > max(CUTOFF**2, len(squares) * np.finfo(np.float64).eps) * max(float(squares[-1]), 0.0)
    directions, squares = directions[:, kept], squares[kept]
    cross = fitted.xy - fitted.tokens * np.outer(x_mean, y_mean)
    matrix = directions @ ((directions.T @ cross) / squares[:, None])
    return LinearMap(matrix, y_mean - x_mean @ matrix, int(kept.sum()))


def linearity_score(linear: LinearMap, scored: Moments) -> float:
    """Return the R^2 of a map on a text: 1 - |x A + b - y|^2 / |y - mean y|^2, summed over tokens and channels.

    It is NaN if y is constant.
    """
    variance = scored.yy - float(scored.y_sum @ scored.y_sum) / scored.tokens
    return 1.0 - _squared_error(linear, scored) / variance if variance > 0.0 else float("nan")


def _squared_error(linear: LinearMap, scored: Moments) -> float:
    """Return the sum of |x A + b - y|^2, with A = `matrix` and b = `offset`."""
    matrix, offset = linear.matrix, linear.offset
    predicted = np.sum(matrix * (scored.xx @ matrix)) + 2.0 * (scored.x_sum @ matrix) @ offset
    predicted += scored.tokens * (offset @ offset)
    crossed = np.sum(matrix * scored.xy) + offset @ scored.y_sum
    return float(predicted - 2.0 * crossed + scored.yy)
