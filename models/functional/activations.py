"""Activations that `jax.nn` does not have."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["squared_relu"]


def squared_relu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """`max(x, 0)^2` (So et al. 2021, section 4).

    >>> squared_relu(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 9.0]
    """
    return jnp.square(jax.nn.relu(x))
