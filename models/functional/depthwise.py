"""Causal depthwise convolution as a sum of shifted products, with gradients of the same form.

On most devices, XLA's grouped convolution is slow with one group for each channel; a few shifted multiply-adds fuse
with the operations around them. Automatic differentiation of the sum adds one padded array for each tap, which takes
twice as long for 3 taps and seven times for 31 (benchmarks/depthwise_gradient.py). So the gradients are written here:
that of the input is a sum of shifted products too, and that of each tap is one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...primitives.ops import OPS

__all__ = ["FAST_OPS", "causal_depthwise", "depthwise_convolution"]

Features = Float[Array, "batch length *features"]
Kernel = Float[Array, "kernel *features"]
Past = Float[Array, "batch past *features"]
Values = Float[Array, "*axes length width"]
Taps = Float[Array, "*branches kernel width"]


def causal_depthwise(x: Features, kernel: Kernel, past: Past | None = None) -> tuple[Features, Past]:
    """Return each channel's weighted sum of `kernel` positions: `y[t] = sum_j kernel[j] x[t - (kernel-1) + j]`.

    Args:
        x: inputs.
        kernel: weight of each position and channel, the current position's last.
        past: the `kernel - 1` inputs before `x`; None for zeros, at the start of a sequence.

    Returns:
        The outputs, and the last `kernel - 1` inputs: the `past` of the call that continues this one.
    """
    size, length = kernel.shape[0], x.shape[1]
    if past is None:
        window = jnp.pad(x, [(0, 0), (size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
        flat = depthwise_convolution(x.reshape(*x.shape[:2], -1), kernel.reshape(size, -1))
        return flat.reshape(x.shape), window[:, length:]
    window = jnp.concatenate([past.astype(x.dtype), x], axis=1)
    y = kernel[0] * window[:, :length]
    for tap in range(1, size):
        y += kernel[tap] * window[:, tap : tap + length]
    return y, window[:, length:]


@jax.custom_vjp
def depthwise_convolution(x: Values, taps: Taps) -> Values:
    """Return a causal convolution of each channel separately, over the positions of the second last axis.

    Args:
        x: inputs, [branches..., batch, length, width]; branch axes may be missing or of size 1.
        taps: weight of each position and channel, the current position's last.
    """
    kernel, length = taps.shape[-2], x.shape[-2]
    earlier = _padded(x, kernel - 1, 0)
    return sum(taps[..., None, tap, None, :] * earlier[..., tap : tap + length, :] for tap in range(kernel))


def _forward(x: Values, taps: Taps) -> tuple[Values, tuple[Values, Taps]]:
    return depthwise_convolution(x, taps), (x, taps)


def _backward(operands: tuple[Values, Taps], gradient: Values) -> tuple[Values, Taps]:
    x, taps = operands
    kernel, length = taps.shape[-2], x.shape[-2]
    later = _padded(gradient, 0, kernel - 1)
    x_gradient = sum(
        taps[..., None, tap, None, :] * later[..., kernel - 1 - tap : kernel - 1 - tap + length, :]
        for tap in range(kernel)
    )
    return _sum_to(x_gradient, x.shape), _taps_gradient(x, taps, gradient)


def _taps_gradient(x: Values, taps: Taps, gradient: Values) -> Taps:
    """Return the gradient of the taps: each is one matrix product over all positions of the batch."""
    kernel, length = taps.shape[-2], x.shape[-2]
    earlier = _padded(_branches_as_channels(jnp.broadcast_to(x, gradient.shape)), kernel - 1, 0)
    gradient = _branches_as_channels(gradient)
    batch, _, channels = gradient.shape
    ones = jnp.ones((1, batch * length), gradient.dtype)  # a product with ones is faster than a sum over rows

    def of_one_tap(tap: Array) -> Array:
        rows = (gradient * jax.lax.dynamic_slice_in_dim(earlier, tap, length, axis=1)).reshape(-1, channels)
        return jnp.matmul(ones, rows, preferred_element_type=jnp.float32)[0].astype(taps.dtype)

    gradients = jax.lax.map(of_one_tap, jnp.arange(kernel))
    return jnp.moveaxis(gradients.reshape(kernel, *taps.shape[:-2], taps.shape[-1]), 0, -2)


def _branches_as_channels(x: Values) -> Float[Array, "batch length channels"]:
    """Return [branches..., batch, length, width] as [batch, length, branches * width]."""
    branches = tuple(range(x.ndim - 3))
    moved = jnp.moveaxis(x, branches, tuple(2 + axis for axis in branches))
    return moved.reshape(*moved.shape[:2], -1)


depthwise_convolution.defvjp(_forward, _backward)


def _padded(x: Array, before: int, after: int) -> Array:
    """Return x with zeros before and after its positions, the second last axis."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)])


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Return the sum over the axes that broadcasting added to `shape` or repeated."""
    added = gradient.ndim - len(shape)
    repeated = [added + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[added + axis] > 1]
    return jnp.sum(gradient, axis=(*range(added), *repeated), keepdims=True).reshape(shape)


def _apply(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    taps = parameters["kernel"]
    return depthwise_convolution(operands[0], taps if taps.ndim == 2 else taps[..., 0, :, :])


FAST_OPS: Mapping[str, Callable[..., Array]] = {name: _apply for name in OPS if name.startswith("DCONV_")}
"""Function that replaces an op's `apply` in compiled blocks, by the name of the op."""
