"""Causal depthwise convolution as a sum of shifted products.

On most devices, XLA's grouped convolution is slow with one group for each channel; a few shifted multiply-adds fuse
with the operations around them.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["causal_depthwise"]

Features = Float[Array, "batch length *features"]
Kernel = Float[Array, "kernel *features"]
Past = Float[Array, "batch past *features"]


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
    else:
        window = jnp.concatenate([past.astype(x.dtype), x], axis=1)
    y = kernel[0] * window[:, :length]
    for tap in range(1, size):
        y += kernel[tap] * window[:, tap : tap + length]
    return y, window[:, length:]
