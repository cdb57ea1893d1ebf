"""What attention remembers of the positions it has decoded."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from ..functional.attention import append_to_cache
from ..functional.sharding import Sharding
from .layers import placed

__all__ = ["KeyValueCache", "cache_exists"]

Heads = Float[Array, "batch length heads channels"]


class KeyValueCache(nn.Module):
    """Keys and values of a sequence so far, and how many positions are filled: the variables of collection `cache`.

    Attributes:
        sharding: mesh axes of keys and values.
    """

    sharding: Sharding | None = None

    @nn.compact
    def __call__(self, key: Heads, value: Heads) -> tuple[Heads, Heads, int | Int[Array, ""]]:
        """Append new positions; return all keys and values, and the position the new ones start at.

        While variables are made, the new positions say how many there can be; nothing is appended.

        Raises:
            ValueError: there is no cache, or the new positions do not fit it.
        """
        ready = cache_exists(self, "key")
        zeros = placed(jnp.zeros, self.sharding, "batch", None, "heads", None)
        keys = self.variable("cache", "key", zeros, key.shape, key.dtype)
        values = self.variable("cache", "value", zeros, value.shape, value.dtype)
        index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
        if not ready:
            return key, value, 0
        start = index.value
        keys.value, values.value, index.value = append_to_cache(keys.value, values.value, start, key, value)
        return keys.value.astype(key.dtype), values.value.astype(value.dtype), start


def cache_exists(module: nn.Module, variable: str) -> bool:
    """Whether a variable of the cache is there to decode with, rather than now being made.

    Raises:
        ValueError: it is neither.
    """
    ready = module.has_variable("cache", variable)
    if not ready and not module.is_initializing():
        raise ValueError(
            "there is no cache to decode with; make the variables with the longest input, as in "
            "init(key, jnp.ones((batch, longest, width)), decode=True), and hand their collection 'cache' to apply"
        )
    return ready
