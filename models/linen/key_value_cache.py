"""Key-value cache of an attention."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Int

from ..functional.attention import Heads, append_to_cache
from ..functional.sharding import Sharding
from .layers import with_mesh_axes

__all__ = ["KeyValueCache", "cache_exists"]


class KeyValueCache(nn.Module):
    """Keys and values of the positions decoded so far, in the collection `cache`.

    Attributes:
        sharding: mesh axes of keys and values.
    """

    sharding: Sharding | None = None

    @nn.compact
    def __call__(self, key: Heads, value: Heads) -> tuple[Heads, Heads, int | Int[Array, ""]]:
        """Append new positions; return all keys and values, and the index of the first new position.

        During `init`, make an empty cache with as many positions as the input has.

        Raises:
            ValueError: the cache is missing, or the new positions do not fit it.
        """
        ready = cache_exists(self, "key")
        zeros = with_mesh_axes(jnp.zeros, self.sharding, "batch", None, "heads", None)
        keys = self.variable("cache", "key", zeros, key.shape, key.dtype)
        values = self.variable("cache", "value", zeros, value.shape, value.dtype)
        index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
        if not ready:
            return key, value, 0
        start = index.value
        keys.value, values.value, index.value = append_to_cache(keys.value, values.value, start, key, value)
        return keys.value.astype(key.dtype), values.value.astype(value.dtype), start

    def longest(self, x: Array) -> int:
        """Return the number of positions that the cache has room for; during `init`, the number of positions of `x`."""
        return self.get_variable("cache", "key", x).shape[1]

    def start(self) -> int | Int[Array, ""]:
        """Return the number of positions decoded so far; 0 during `init`."""
        return self.get_variable("cache", "index", 0)


def cache_exists(module: nn.Module, variable: str) -> bool:
    """Return whether a cache variable exists. It may be missing only during `init`, which creates it.

    Raises:
        ValueError: the variable is missing outside of `init`.
    """
    ready = module.has_variable("cache", variable)
    if not ready and not module.is_initializing():
        raise ValueError(
            "the cache to decode with is missing; make the variables with the longest input, as in "
            "init(key, jnp.ones((batch, longest, width)), decode=True), and pass their collection 'cache' to apply"
        )
    return ready
