"""Elementwise arithmetic of the hand-written blocks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["NORM_EPSILON", "squared_relu"]

NORM_EPSILON = 1e-12
"""Epsilon that norms add to the variance. Programs divide by a deviation of at least 1e-6; above it, both agree."""


def squared_relu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return `max(x, 0)^2` (So et al. 2021, section 4).

    >>> squared_relu(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 9.0]
    """
    return jnp.square(jax.nn.relu(x))
