"""Least squares over the past: the arithmetic of LEAST_SQUARES, for NumPy (the reference) and JAX (namespace `xp`).

At each position the op solves (sum of k k^T over the position and all earlier ones + diag(ridge)) z = q. T_MAT_MUL,
MASK and MAT_MUL then multiply the sum of v k^T by z. The result is the prediction, for the query q, of a ridge
regression of the values v on the keys k so far. The four ops are a mesa layer (von Oswald et al. 2023, arXiv
2309.05858; MesaNet, 2025, arXiv 2506.05233). Here each system is solved directly. In training,
`models.functional.least_squares` solves all systems at once by conjugate gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["RIDGE_START", "SMALLEST_RIDGE", "SOLVE_STEPS", "least_squares", "ridge_of", "solve_flops"]

Array = Any

SMALLEST_RIDGE = 0.25
"""Smallest entry of the ridge, as in MesaNet. It keeps the systems nonsingular, except for rounding."""

RIDGE_START = float(np.log(np.expm1(1.0 - SMALLEST_RIDGE)))
"""Initial value of the parameter: the ridge starts as 1, as in MesaNet."""

SOLVE_STEPS = 256
"""Largest number of conjugate-gradient steps in training. A position stops earlier once its system is solved."""

COUNTED_STEPS = 30
"""Number of steps in the cost model, as many as MesaNet takes. The number that a position needs depends on its keys."""


def ridge_of(xp: Any, parameter: Array) -> Array:
    """Return the ridge of each channel: softplus of the learned parameter, plus 0.25.

    >>> float(round(ridge_of(np, np.array(RIDGE_START)), 6))
    1.0
    """
    return xp.logaddexp(parameter, xp.zeros_like(parameter)) + SMALLEST_RIDGE


def least_squares(
    xp: Any,
    operands: list[Array],
    parameters: dict[str, Array],
    constant: float,
    kernel: int,
    texts: Array = None,
    before: Array = None,
) -> Array:
    """Return the solution of each position's system, with the arguments of `Op.apply`.

    Args:
        xp: array namespace.
        operands: q and k, [..., length, width].
        parameters: `ridge`, the parameter of `ridge_of`, [..., width].
        constant, kernel: unused.
        texts: number of the text of each position, [batch, length]; sums start again with each text. If `before` is
            given, the number of the text of the position before the first one comes first, [batch, 1 + length].
        before: sum of k k^T over earlier positions, [..., width, width]; None at the start of a sequence.
    """
    q, k = operands
    dtype = xp.promote_types(q.dtype, np.float32)  # sums and solutions need more digits than half precision has
    k, eye = k.astype(dtype), xp.eye(k.shape[-1], dtype=dtype)
    ridge = ridge_of(xp, parameters["ridge"].astype(dtype))[..., None, :, None]
    parts = [_running_sums(xp, k, texts), ridge * _with_rank(xp, eye, ridge.ndim)]
    if before is not None:
        earlier = before[..., None, :, :]
        if texts is not None:
            same = (texts[:, 1:] == texts[:, :1])[:, :, None, None].astype(dtype)
            earlier = earlier * _with_rank(xp, same, earlier.ndim)
        parts.append(earlier)
    right = q[..., None].astype(dtype)
    rank = max(x.ndim for x in (*parts, right))
    systems = sum(_with_rank(xp, x, rank) for x in parts)
    return _solve(xp, systems, _with_rank(xp, right, rank))[..., 0].astype(q.dtype)


def solve_flops(width: int, length: int) -> float:
    """Return the operations per position of the conjugate gradients in `models.functional.least_squares`.

    One step has a product with the sum over earlier chunks, two products with the positions of the same chunk, three
    scalar products and three updates of vectors.
    """
    chunk = min(length, max(width, 32))
    step = 2 * width**2 + 4 * chunk * width + 15 * width + chunk
    return float(min(COUNTED_STEPS, 2 * width) * step + 2 * width**2)


def _running_sums(xp: Any, k: Array, texts: Array) -> Array:
    """Return the sum of k k^T over each position and earlier ones of its text, [..., length, width, width]."""
    products = k[..., :, None] * k[..., None, :]
    if texts is None:
        return xp.cumsum(products, axis=-3)
    length = k.shape[-2]
    own = texts[:, -length:]
    seen = (own[:, :, None] == own[:, None, :]) & xp.tril(xp.ones((1, length, length), bool))
    seen = _with_rank(xp, seen.astype(k.dtype), k.ndim)
    return xp.matmul(seen, products.reshape(*k.shape[:-1], -1)).reshape(products.shape)


def _solve(xp: Any, systems: Array, right: Array) -> Array:
    if xp is not np:
        return xp.linalg.solve(systems, right)
    try:
        return np.linalg.solve(systems, right)
    except np.linalg.LinAlgError:  # one of the systems is singular, because its ridge was lost in rounding
        return _solve_each(systems, right)


def _solve_each(systems: Array, right: Array) -> Array:
    """Return the solution of each system; NaN for systems that are singular."""
    width = systems.shape[-1]
    shape = np.broadcast_shapes(systems.shape[:-2], right.shape[:-2])
    each = np.broadcast_to(systems, (*shape, width, width)).reshape(-1, width, width)
    solutions = np.full((len(each), width, 1), np.nan)
    rights = np.broadcast_to(right, (*shape, width, 1)).reshape(-1, width, 1)
    for solution, system, right_side in zip(solutions, each, rights, strict=True):
        try:
            solution[:] = np.linalg.solve(system, right_side)
        except np.linalg.LinAlgError:
            continue
    return solutions.reshape(*shape, width, 1)


def _with_rank(xp: Any, x: Array, rank: int) -> Array:
    """Return x with new leading axes up to `rank`, because `jax_numpy_rank_promotion` may forbid JAX to add axes."""
    return xp.expand_dims(x, tuple(range(rank - x.ndim))) if x.ndim < rank else x
