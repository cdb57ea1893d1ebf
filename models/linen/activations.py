"""Squared ReLU as a module."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from ..functional.elementwise import squared_relu

__all__ = ["SquaredReLU"]


class SquaredReLU(nn.Module):
    """`max(x, 0)^2`, in place of ReLU or GELU in a feed forward; no parameters.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax.numpy as jnp
    >>> SquaredReLU().apply({}, jnp.array([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        return squared_relu(x)
