"""Initializers of kernels for Flax modules, with the same values as in compiled programs (`initial_values`).

Dense kernels are normal with variance 1 / fan-in. Depthwise kernels start from fixed values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from .initial_values import depthwise_taps

__all__ = ["depthwise_init", "fan_in_normal", "matrix_init", "per_head_init"]

_variance_scaling = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def fan_in_normal(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
    """Return normal values with variance 1 / fan-in, so that outputs have the variance of inputs.

    This is a function at module level, so that `pickle` works for Linen modules that have it as a default.
    """
    return _variance_scaling(key, tuple(shape), dtype)


def matrix_init(kernel_init: Initializer, inputs: int) -> Initializer:
    """Return the initializer that draws a kernel as a matrix, with its first `inputs` axes as rows."""

    def init(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
        flat = (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
        return kernel_init(key, flat, dtype).reshape(shape)

    return init


def per_head_init(kernel_init: Initializer) -> Initializer:
    """Return the initializer that draws each head of [heads, ...] separately, so that heads do not count as fan-in."""

    def init(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
        return jax.vmap(lambda head: kernel_init(head, tuple(shape[1:]), dtype))(jax.random.split(key, shape[0]))

    return init


def depthwise_init(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
    """Return the initial value of a depthwise kernel of shape [kernel, ...], the same in all channels.

    >>> depthwise_init(None, (4, 1))[:, 0].tolist()
    [0.125, 0.125, 0.125, 0.5]
    """
    del key  # the values are not random
    taps = depthwise_taps(shape[0], jnp).reshape(-1, *[1] * (len(shape) - 1))
    return jnp.broadcast_to(taps, tuple(shape)).astype(dtype)
