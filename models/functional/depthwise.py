"""Causal depthwise convolution as a sum of shifted products.

On most devices, XLA's grouped convolution is slow with one group for each channel. A few shifted multiply-adds fuse
with the operations around them. The automatic gradient of their sum adds a padded array for each tap and sums over
rows, which is slow. So compiled blocks have a hand-written gradient: the gradient of the input is a sum of shifted
products, and the gradient of a tap is one matrix product. A training step with convolutions over 15 positions takes 0.5
of the time that it takes with the automatic gradient, over 31 positions 0.24 (benchmarks/written_gradients.py). The
Flax modules keep the automatic gradient, which also works in forward mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...primitives.ops.op_table import OPS

__all__ = ["FAST_OPS", "causal_depthwise", "depthwise_convolution"]

LONG_EDGE = 14
"""With at least this many earlier positions, the gradient of the input is computed branch by branch."""

Features = Float[Array, "batch length *features"]
Kernel = Float[Array, "kernel *features"]
Past = Float[Array, "batch past *features"]
Visible = Bool[Array, "#batch length #heads kernel"]
Window = Float[Array, "*axes positions width"]
Values = Float[Array, "*axes length width"]
Taps = Float[Array, "*branches kernel width"]


def causal_depthwise(
    x: Features, kernel: Kernel, past: Past | None = None, visible: Visible | None = None
) -> tuple[Features, Past]:
    """Return each channel's weighted sum of `kernel` positions: `y[t] = sum_j kernel[j] x[t - (kernel-1) + j]`.

    Args:
        x: inputs.
        kernel: weight of each position and channel; the current position comes last.
        past: the `kernel - 1` inputs before `x`; None at the start of a sequence, where they are zeros.
        visible: mask of the `kernel` positions that each position sums (`attention.visible_taps`); None: all.

    Returns:
        The outputs, and the last `kernel - 1` inputs, which are the `past` of the next call.
    """
    size, length = kernel.shape[0], x.shape[1]
    if past is None:
        window = jnp.pad(x, [(0, 0), (size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
    else:
        window = jnp.concatenate([past.astype(x.dtype), x], axis=1)

    def product(tap: int) -> Features:
        inputs = window[:, tap : tap + length]
        if visible is not None:
            seen = visible[..., tap]
            inputs = jnp.where(seen.reshape(seen.shape + (1,) * (x.ndim - 3)), inputs, 0)
        return kernel[tap, None, None] * inputs

    y = product(0)
    for tap in range(1, size):
        y += product(tap)
    return y, window[:, length:]


@jax.custom_vjp
def depthwise_convolution(x: Values, taps: Taps) -> Values:
    """Return each channel's weighted sum of positions: `y[t] = sum_j taps[j] x[t - (kernel-1) + j]`, zeros before 0.

    Args:
        x: inputs, [branches..., batch, length, width]; branch axes may be missing or of size 1.
        taps: weight of each position and channel.
    """
    return _shifted_products(_padded(x, taps.shape[-2] - 1, 0), taps)


def _forward(x: Values, taps: Taps) -> tuple[Values, tuple[Values, Taps]]:
    return depthwise_convolution(x, taps), (x, taps)


def _backward(operands: tuple[Values, Taps], gradient: Values) -> tuple[Values, Taps]:
    x, taps = operands
    edge = taps.shape[-2] - 1
    products = _shifted_products_by_branch if gradient.ndim > 3 and edge >= LONG_EDGE else _shifted_products
    x_gradient = products(_padded(gradient, 0, edge), taps[..., ::-1, :])
    return _sum_to(x_gradient, x.shape), _taps_gradient(_padded(x, edge, 0), taps, gradient)


depthwise_convolution.defvjp(_forward, _backward)


def _padded(x: Values, before: int, after: int) -> Window:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)])


def _shifted_products(window: Window, taps: Taps) -> Values:
    """Return `y[t] = sum_j taps[j] window[t + j]` for all t at which the window has every position."""
    length = window.shape[-2] - taps.shape[-2] + 1
    y = taps[..., None, 0, None, :] * window[..., :length, :]
    for tap in range(1, taps.shape[-2]):
        y += taps[..., None, tap, None, :] * window[..., tap : tap + length, :]
    return y


def _shifted_products_by_branch(window: Window, taps: Taps) -> Values:
    """Return the same sum, computed in a loop over the branches.

    XLA does not fuse a loop into its readers. Without the loop, both matrix products in the backward pass of the
    projection before the convolution would compute all taps again, in transposed order.
    """
    branches = jnp.broadcast_shapes(window.shape[:-3], taps.shape[:-2])
    windows = jnp.broadcast_to(window, (*branches, *window.shape[-3:])).reshape(-1, *window.shape[-3:])
    kernels = jnp.broadcast_to(taps, (*branches, *taps.shape[-2:])).reshape(-1, *taps.shape[-2:])
    y = jax.lax.map(lambda branch: _shifted_products(*branch), (windows, kernels))
    return y.reshape(*branches, *y.shape[1:])


def _taps_gradient(window: Window, taps: Taps, gradient: Values) -> Taps:
    """Return the gradient of the taps; each tap takes one matrix product over all positions of the batch."""
    kernel, branches = taps.shape[-2], gradient.shape[:-3]
    window = _branches_as_channels(jnp.broadcast_to(window, (*branches, *window.shape[-3:])))
    gradient = _branches_as_channels(gradient)
    batch, length, channels = gradient.shape
    summed = jnp.promote_types(gradient.dtype, jnp.float32)
    ones = jnp.ones((1, batch * length), gradient.dtype)  # a product with ones is faster than a sum over rows

    def of_one_tap(tap: Array) -> Array:
        rows = (gradient * jax.lax.dynamic_slice_in_dim(window, tap, length, axis=1)).reshape(-1, channels)
        return jnp.matmul(ones, rows, preferred_element_type=summed)[0].astype(taps.dtype)

    gradients = jax.lax.map(of_one_tap, jnp.arange(kernel))
    return jnp.moveaxis(gradients.reshape(kernel, *branches, taps.shape[-1]), 0, -2)


def _branches_as_channels(x: Array) -> Float[Array, "batch length channels"]:
    """Return [branches..., batch, length, width] as [batch, length, branches * width]."""
    branches = tuple(range(x.ndim - 3))
    moved = jnp.moveaxis(x, branches, tuple(2 + axis for axis in branches))
    return moved.reshape(*moved.shape[:2], -1)


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting from `shape`: sum over the axes that it added or repeated."""
    added = gradient.ndim - len(shape)
    repeated = [added + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[added + axis] > 1]
    return jnp.sum(gradient, axis=(*range(added), *repeated), keepdims=True).reshape(shape)


def _apply(xp: Any, operands: list[Array], parameters: dict[str, Array], constant: float, kernel: int) -> Array:
    """Apply a `DCONV` op, with the arguments of `Op.apply`."""
    (x,), taps = operands, parameters["kernel"]
    if taps.ndim > 2:
        taps = jnp.squeeze(taps, -3)  # drop the batch axis of the taps, of size 1
    return depthwise_convolution(jnp.expand_dims(x, tuple(range(taps.ndim + 1 - x.ndim))), taps)


FAST_OPS: Mapping[str, Callable[..., Array]] = {name: _apply for name in OPS if name.startswith("DCONV_")}
"""Functions that replace the `apply` of the depthwise ops in compiled blocks, by the name of the op."""
