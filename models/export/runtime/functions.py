"""Guarded arithmetic, masks, branch axes, convolution inputs and initializers for exported files, in plain JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

EPSILON = 1e-6
"""Smallest magnitude of the operand of a logarithm and of a divisor."""


def divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return x / y with |y| raised to at least EPSILON; the sign of y is kept, and 0 counts as positive."""
    return x / jnp.where(y < 0, jnp.minimum(y, -EPSILON), jnp.maximum(y, EPSILON))


def abs_root(x: jax.Array) -> jax.Array:
    """Return the square root of |x|; its value and its gradient are 0 at 0."""
    magnitude = jnp.abs(x)
    zero = magnitude == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, magnitude)))


def log_abs(x: jax.Array) -> jax.Array:
    """Return the logarithm of |x|, with |x| raised to at least EPSILON."""
    return jnp.log(jnp.maximum(jnp.abs(x), EPSILON))


def reciprocal(x: jax.Array) -> jax.Array:
    """Return 1 / x; its value and its gradient are 0 at 0."""
    nonzero = x != 0
    return jnp.where(nonzero, 1 / jnp.where(nonzero, x, 1), 0)


def causal_mask(scores: jax.Array, start: jax.Array | None = None) -> jax.Array:
    """Return which keys each query may see: `[queries, keys]`. Queries begin at `start` or 0, keys at 0."""
    queries, keys = scores.shape[-2:]
    return jnp.arange(keys) <= (0 if start is None else start) + jnp.arange(queries)[:, None]


def rows(x: jax.Array, axis: int, count: int, start: jax.Array | None) -> jax.Array:
    """Return the `count` positions of x that begin at `start`, or all of x if `start` is None."""
    return x if start is None else jax.lax.dynamic_slice_in_dim(x, start, count, axis)


def into_branches(x: jax.Array, *branches: int) -> jax.Array:
    """Broadcast `[..., width]` to `[..., *branches, width]`: each branch sees the same values."""
    *outer, width = x.shape
    return jnp.broadcast_to(x.reshape(*outer, *[1] * len(branches), width), (*outer, *branches, width))


def join_branches(x: jax.Array) -> jax.Array:
    """Reshape `[..., branches, width]` to `[..., branches * width]`."""
    return x.reshape(*x.shape[:-2], -1)


def last_inputs(window: jax.Array | None, x: jax.Array, kernel_size: int) -> jax.Array:
    """Prepend the previous `kernel_size - 1` positions to x: zeros, or in decoding the last ones seen."""
    if window is None:
        return jnp.pad(x, [(0, 0), (kernel_size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
    return jnp.concatenate([window.astype(x.dtype), x], axis=1)


def on_branches(function: Any, operands: Any, arrays: dict[str, jax.Array]) -> jax.Array:
    """Apply a function of `[..., length, width]` and learned arrays to values `[batch, length, *branches, width]`."""
    return jnp.moveaxis(function(*(jnp.moveaxis(x, 1, -2) for x in operands), **arrays), -2, 1)


def initial_array(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike, start: str, branches: int) -> jax.Array:
    """Return ones or zeros, or (`start` is "normal") normal values of variance 1 / fan-in, behind axes of branches."""
    if start != "normal":
        return jnp.full(shape, 1 if start == "ones" else 0, dtype)
    fan_in = functools.reduce(lambda product, size: product * size, shape[branches:-1], 1)
    return jax.random.normal(key, shape, dtype) / fan_in**0.5


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return 0.5 for the current position and 0.5 / kernel_size for earlier ones; axis 0 is time, oldest first."""
    taps = jnp.full(shape[0], 0.5 / shape[0]).at[-1].set(0.5)
    return jnp.broadcast_to(taps.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)
