"""Key-value cache of an attention."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Int

from ..functional.attention import Heads, append_to_cache
from ..functional.checks import check_cache_space, check_cached_batch
from ..functional.sharding import Sharding
from .layers import mesh_metadata

__all__ = ["KeyValueCache"]


class KeyValueCache(nnx.Module):
    """Keys and values of the positions decoded so far.

    Attributes:
        key: [batch, longest, heads, channels], after convolution and rotation; None before `init_cache`.
        value: [batch, longest, heads, channels], after convolution; None before `init_cache`.
        index: number of filled positions; None before `init_cache`.
    """

    def __init__(self, sharding: Sharding | None = None):
        self.sharding = sharding
        self.key: nnx.Cache[Array] | None = nnx.data(None)
        self.value: nnx.Cache[Array] | None = nnx.data(None)
        self.index: nnx.Cache[Array] | None = nnx.data(None)

    def __call__(self, key: Heads, value: Heads) -> tuple[Heads, Heads, Int[Array, ""]]:
        """Append new positions; return all keys and values, and the index of the first new position.

        Raises:
            ValueError: the cache is missing, or the new positions do not fit it.
        """
        self.check_cache_space(key)
        assert self.key is not None and self.value is not None and self.index is not None
        start = self.index[...]
        keys, values, end = append_to_cache(self.key[...], self.value[...], start, key, value)
        self.key[...], self.value[...], self.index[...] = keys, values, end
        return keys.astype(key.dtype), values.astype(value.dtype), start

    def start(self) -> Int[Array, ""]:
        """Return the number of positions decoded so far; the cache must exist."""
        assert self.index is not None
        return self.index[...]

    def longest(self) -> int:
        """Return the number of positions that the cache has room for; the cache must exist."""
        assert self.key is not None
        return self.key.shape[1]

    def check_cache_space(self, x: Array) -> None:
        """Check that new positions, [batch, length, ...], fit the cache.

        Raises:
            ValueError: the cache is missing, has another batch size, or is shorter than `x`.
        """
        if self.key is None:
            raise ValueError("the cache to decode with is missing; call init_cache first")
        check_cached_batch(self.key.shape[0], x.shape[0])
        check_cache_space(x.shape[1], self.key.shape[1])

    def init_cache(self, shape: tuple[int, int, int, int], dtype: Dtype) -> None:
        """Make an empty cache of [batch, longest, heads, channels]."""
        axes = mesh_metadata(self.sharding, "batch", None, "heads", None)
        self.key = nnx.Cache(jnp.zeros(shape, dtype), **axes)
        self.value = nnx.Cache(jnp.zeros(shape, dtype), **axes)
        self.index = nnx.Cache(jnp.array(0, jnp.int32))
