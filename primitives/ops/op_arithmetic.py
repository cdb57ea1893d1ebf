"""Implementations of the primitives that need more than one array operation, for NumPy and JAX (namespace `xp`).

Guards keep divisions, roots and logarithms finite. They are applied to the *input* of an operation, because `where` on
the output alone still gives NaN gradients. All guards are our choice, because the paper does not describe any. No guard
turns NaN into a number. A masked zero times an overflow is NaN, and a number in its place would carry information from
later positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

__all__ = [
    "EPSILON",
    "abs_root",
    "binary",
    "convolution",
    "dense",
    "depthwise_convolution",
    "divide",
    "log",
    "mask",
    "reciprocal",
    "running",
    "scale",
    "shift",
    "sigmoid",
    "unary",
    "wide_guards",
    "with_constant",
]

Array = Any

EPSILON = 1e-6
"""Smallest magnitude that LOG and DIVIDE operate on."""

_GUARD_SHARE: ContextVar[float] = ContextVar("guard_share", default=0.0)


@contextmanager
def wide_guards(share: float) -> Iterator[None]:
    """Raise the guard of LOG and DIVIDE to `share` times the root mean square of the guarded array.

    Only `fingerprint` uses this. Random inputs hardly ever distinguish programs that differ only where a guard applies,
    such as DIVIDE(x, x), which is 1 except for |x| < 1e-6. The guard is relative, so that a scale of both operands
    still cancels.
    """
    token = _GUARD_SHARE.set(share)
    try:
        yield
    finally:
        _GUARD_SHARE.reset(token)


def _guard(xp: Any, x: Array) -> Any:
    share = _GUARD_SHARE.get()
    if not share:
        return EPSILON
    return xp.maximum(EPSILON, share * xp.sqrt(xp.mean(xp.square(xp.where(xp.isfinite(x), x, 0)))))


def unary(function: Callable[..., Array]) -> Callable[..., Array]:
    """Give `function(xp, x)` the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, operands[0])


def binary(function: Callable[..., Array]) -> Callable[..., Array]:
    """Give `function(xp, x, y)` the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, *_equal_ranks(xp, *operands))


def with_constant(function: Callable[..., Array]) -> Callable[..., Array]:
    """Give `function(xp, x, constant)` the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, operands[0], constant)


def divide(xp: Any, x: Array, y: Array) -> Array:
    """Return x / y with |y| raised to at least EPSILON; y keeps its sign, and 0 counts as positive."""
    guard = _guard(xp, y)
    return x / xp.where(y < 0, xp.minimum(y, -guard), xp.maximum(y, guard))


def abs_root(xp: Any, x: Array) -> Array:
    """Return sqrt(|x|); value and gradient are 0 at 0."""
    magnitude = xp.abs(x)
    zero = magnitude == 0  # `> 0` would turn NaN into 0
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, magnitude)))


def log(xp: Any, x: Array) -> Array:
    """Return log(max(|x|, EPSILON))."""
    return xp.log(xp.maximum(xp.abs(x), _guard(xp, x)))


def reciprocal(xp: Any, x: Array) -> Array:
    """Return 1 / x; value and gradient are 0 at 0."""
    nonzero = x != 0
    return xp.where(nonzero, 1 / xp.where(nonzero, x, 1), 0)


def sigmoid(xp: Any, x: Array) -> Array:
    """Return the logistic function of x. It is computed from tanh, which cannot overflow."""
    return 0.5 * (xp.tanh(0.5 * x) + 1)


def scale(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """Return x * scale: `[..., length, width]` times `[..., width]`."""
    x, factor = _equal_ranks(xp, operands[0], parameters["scale"][..., None, :])
    return x * factor


def shift(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """Return x + bias: `[..., length, width]` plus `[..., width]`."""
    x, bias = _equal_ranks(xp, operands[0], parameters["bias"][..., None, :])
    return x + bias


def dense(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """Return x @ kernel: `[..., length, in]` times `[..., in, out]`."""
    return xp.matmul(operands[0], parameters["kernel"])


def mask(
    xp: Any,
    operands: list[Array],
    parameters: dict[str, Array],
    constant: float,
    kernel: int,
    texts: Array = None,
    prefix: Array = None,
    readable: Array = None,
) -> Array:
    """Return scores with 0 at keys that are later than their row, in another text, or not readable for the row.

    Rows of a prefix also see the later keys of the same prefix. A row that may read nothing reads itself.
    """
    scores = operands[0]
    if texts is None and prefix is None and readable is None:
        return xp.tril(scores)
    visible = xp.tril(xp.ones((1, *scores.shape[-2:]), bool))
    if prefix is not None:
        visible = visible | (prefix[:, :, None] & prefix[:, None, :])
    if texts is not None:
        visible = visible & (texts[:, :, None] == texts[:, None, :])
    if readable is not None:
        visible = visible & readable
        visible = visible | (xp.eye(scores.shape[-1], dtype=bool)[None] & ~visible.any(axis=-1, keepdims=True))
    return xp.where(visible.reshape((1,) * (scores.ndim - 3) + visible.shape), scores, 0)


def running(function: str, combine: Callable[[Array, Array], Array], neutral: float) -> Callable[..., Array]:
    """Return the `Op.apply` of a running reduction over each position and all earlier ones of its text.

    Args:
        function: name of the running reduction in NumPy and JAX, which do not separate texts.
        combine: reduction of two values.
        neutral: neutral element of `combine`.
    """

    def apply(
        xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int, texts: Array = None
    ) -> Array:
        x = operands[0]
        if texts is None:
            return getattr(xp, function)(x, axis=-2)
        reduced = 1  # positions that each value reduces so far (Hillis and Steele 1986)
        while reduced < x.shape[-2]:
            x = combine(x, _earlier(xp, x, reduced, neutral, _same_text(xp, texts, reduced)))
            reduced *= 2
        return x

    return apply


def convolution(
    xp: Any,
    operands: list[Array],
    parameters: dict[str, Array],
    constant: float,
    kernel: int,
    texts: Array = None,
    readable: Array = None,
) -> Array:
    """Return a causal convolution, computed as one product of concatenated positions and the matrix of all taps.

    Input `[..., length, in]` and taps `[..., kernel, in, out]`, earliest position first, give `[..., length, out]`.
    """
    windows = xp.concatenate(_delayed(xp, operands[0], kernel, texts, readable), axis=-1)
    taps = parameters["kernel"]
    return xp.matmul(windows, taps.reshape(*taps.shape[:-3], -1, taps.shape[-1]))


def depthwise_convolution(
    xp: Any,
    operands: list[Array],
    parameters: dict[str, Array],
    constant: float,
    kernel: int,
    texts: Array = None,
    readable: Array = None,
) -> Array:
    """Return a causal convolution of each channel separately: `[..., length, width]`, taps `[..., kernel, width]`.

    XLA fuses this sum of shifted products into one loop, which is faster on CPU and GPU than a grouped convolution of
    this shape.
    """
    x, taps = _equal_ranks(xp, operands[0], parameters["kernel"])
    delayed = _delayed(xp, x, kernel, texts, readable)
    return sum(taps[..., tap, None, :] * delayed[tap] for tap in range(kernel))


def _equal_ranks(xp: Any, x: Array, y: Array) -> tuple[Array, Array]:
    """Return both arrays with equal ranks, new axes first: `jax_numpy_rank_promotion` may forbid JAX to add axes."""
    if xp is np or x.ndim == y.ndim:
        return x, y
    missing = tuple(range(abs(x.ndim - y.ndim)))
    return (xp.expand_dims(x, missing), y) if x.ndim < y.ndim else (x, xp.expand_dims(y, missing))


def _delayed(xp: Any, x: Array, kernel: int, texts: Array, readable: Array) -> list[Array]:
    """Return x delayed by `kernel - 1`, ..., 1, 0 positions, with zeros where there is nothing to read."""
    length = x.shape[-2]
    if texts is not None or readable is not None:
        delayed = []
        for delay in range(kernel - 1, 0, -1):
            seen = True if texts is None else _same_text(xp, texts, delay)
            seen = seen if readable is None else seen & _is_readable(xp, readable, delay)
            delayed.append(_earlier(xp, x, delay, 0, seen))
        return [*delayed, x]
    if xp is np:  # NumPy's `pad` costs more than all arithmetic on a small array
        padded = np.concatenate([np.zeros((*x.shape[:-2], kernel - 1, x.shape[-1])), x], axis=-2)
    else:
        padded = xp.pad(x, [(0, 0)] * (x.ndim - 2) + [(kernel - 1, 0), (0, 0)])
    return [padded[..., tap : tap + length, :] for tap in range(kernel)]


def _earlier(xp: Any, x: Array, delay: int, before: float, seen: Array) -> Array:
    """Return x delayed by `delay` positions, and `before` where `seen` [batch, length] is false."""
    length, outside = x.shape[-2], xp.full((*x.shape[:-2], delay, x.shape[-1]), before, x.dtype)
    moved = xp.concatenate([outside, x], axis=-2)[..., :length, :]
    return xp.where(seen.reshape((1,) * (x.ndim - 3) + (*seen.shape, 1)), moved, before)


def _same_text(xp: Any, texts: Array, delay: int) -> Array:
    """Return whether the position that is `delay` earlier exists and is in the same text, [batch, length]."""
    no_text = xp.full((texts.shape[0], delay), -1, texts.dtype)
    return xp.concatenate([no_text, texts], axis=1)[:, : texts.shape[1]] == texts


def _is_readable(xp: Any, readable: Array, delay: int) -> Array:
    """Return whether the position that is `delay` earlier exists and is readable, [batch, length]."""
    batch, length = readable.shape[:2]
    outside = xp.zeros((batch, min(delay, length)), bool)
    return xp.concatenate([outside, xp.diagonal(readable[:, delay:, :], axis1=1, axis2=2)], axis=1)
