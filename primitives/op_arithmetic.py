"""The arithmetic of the primitives that is more than one call, over any array namespace `xp` (NumPy or JAX).

Guards sit on the *input* of an operation (`where` on the output alone would still give NaN gradients). All of
them are our choice; the paper does not say how it guards. None turns what is not a number into one: a masked zero
times an overflow is NaN, and that must not become a message from the future.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = [
    "EPSILON",
    "abs_root",
    "binary",
    "convolution",
    "dense",
    "depthwise_convolution",
    "divide",
    "log",
    "reciprocal",
    "scale",
    "shift",
    "sigmoid",
    "unary",
    "with_constant",
]

Array = Any

EPSILON = 1e-6
"""Smallest magnitude LOG and DIVIDE see."""

_SHARE: ContextVar[float] = ContextVar("share", default=0.0)


@contextmanager
def wide_guards(share: float) -> Iterator[None]:
    """Let the guards of LOG and DIVIDE bind often: below `share` times the root mean square of what they guard.

    Programs that differ only where a guard binds would hardly ever be told apart by random inputs: DIVIDE(x, x) is 1
    but for |x| < 1e-6. Relative to the size, so that scaling both operands changes nothing, here as there. For
    `fingerprint` alone; it is no meaning that a program ever has elsewhere.
    """
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def _least(xp: Any, x: Array) -> Any:
    share = _SHARE.get()
    if not share:
        return EPSILON
    return xp.maximum(EPSILON, share * xp.sqrt(xp.mean(xp.square(xp.where(xp.isfinite(x), x, 0)))))


def unary(function: Callable[..., Array]) -> Callable[..., Array]:
    """`f(xp, x)` with the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, operands[0])


def binary(function: Callable[..., Array]) -> Callable[..., Array]:
    """`f(xp, x, y)` with the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, operands[0], operands[1])


def with_constant(function: Callable[..., Array]) -> Callable[..., Array]:
    """`f(xp, x, c)` with the signature of `Op.apply`."""
    return lambda xp, operands, parameters, constant, kernel: function(xp, operands[0], constant)


def divide(xp: Any, x: Array, y: Array) -> Array:
    """x / y with |y| at least EPSILON; the sign of y is kept, that of 0 counts as positive."""
    least = _least(xp, y)
    return x / xp.where(y < 0, xp.minimum(y, -least), xp.maximum(y, least))


def abs_root(xp: Any, x: Array) -> Array:
    """sqrt(|x|); value and gradient are 0 at 0."""
    magnitude = xp.abs(x)
    zero = magnitude == 0  # not `> 0`, which would make a 0 of what is not a number
    return xp.where(zero, 0, xp.sqrt(xp.where(zero, 1, magnitude)))


def log(xp: Any, x: Array) -> Array:
    """log(max(|x|, EPSILON))."""
    return xp.log(xp.maximum(xp.abs(x), _least(xp, x)))


def reciprocal(xp: Any, x: Array) -> Array:
    """1 / x; value and gradient are 0 at 0."""
    nonzero = x != 0
    return xp.where(nonzero, 1 / xp.where(nonzero, x, 1), 0)


def sigmoid(xp: Any, x: Array) -> Array:
    """The logistic function, by tanh, which cannot overflow."""
    return 0.5 * (xp.tanh(0.5 * x) + 1)


def scale(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """x * scale: `[..., length, width]` times `[..., width]`."""
    return operands[0] * parameters["scale"][..., None, :]


def shift(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """x + bias: `[..., length, width]` plus `[..., width]`."""
    return operands[0] + parameters["bias"][..., None, :]


def dense(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """`[..., length, in]` times `[..., in, out]`."""
    return xp.matmul(operands[0], parameters["kernel"])


def convolution(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """Causal convolution: one product of the last `kernel` positions, laid side by side, with all taps.

    `[..., length, in]` and taps `[..., kernel, in, out]`, oldest position first, give `[..., length, out]`.
    """
    windows = xp.concatenate(_delayed(xp, operands[0], kernel), axis=-1)
    taps = parameters["kernel"]
    return xp.matmul(windows, taps.reshape(*taps.shape[:-3], -1, taps.shape[-1]))


def depthwise_convolution(
    xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int
) -> Array:
    """Causal convolution of each channel by itself: `[..., length, width]`, taps `[..., kernel, width]`.

    A sum of shifted products: XLA fuses it into one loop, which on CPU and GPU is faster than a grouped
    convolution of this shape.
    """
    taps = parameters["kernel"]
    delayed = _delayed(xp, operands[0], kernel)
    return sum(taps[..., tap, None, :] * delayed[tap] for tap in range(kernel))


def _delayed(xp: Any, x: Array, kernel: int) -> list[Array]:
    """x as seen `kernel - 1`, ..., 1, 0 positions ago, zeros before the start."""
    length = x.shape[-2]
    padded = xp.pad(x, [(0, 0)] * (x.ndim - 2) + [(kernel - 1, 0), (0, 0)])
    return [padded[..., tap : tap + length, :] for tap in range(kernel)]
