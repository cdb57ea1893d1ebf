"""What attention remembers of the positions it has decoded."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from ..functional.attention import extend_cache
from ..functional.sharding import Sharding
from .sharding import placed

__all__ = ["KeyValueCache"]

Heads = Float[Array, "batch length heads channels"]


class KeyValueCache(nnx.Module):
    """Keys and values of a sequence so far, and how many positions are filled.

    Attributes:
        key: [batch, longest, heads, channels], after convolution and rotation; None before `init_cache`.
        value: likewise.
        index: filled positions.
    """

    def __init__(self, sharding: Sharding | None = None):
        self.sharding = sharding
        self.key: nnx.Cache[Array] | None = nnx.data(None)
        self.value: nnx.Cache[Array] | None = nnx.data(None)
        self.index: nnx.Cache[Array] | None = nnx.data(None)

    def __call__(self, key: Heads, value: Heads) -> tuple[Heads, Heads, Int[Array, ""]]:
        """Append new positions; return all keys and values, and the position the new ones start at.

        Raises:
            ValueError: there is no cache, or the new positions do not fit it.
        """
        if self.key is None or self.value is None or self.index is None:
            raise ValueError("there is no cache to decode with; call init_cache first")
        start = self.index[...]
        keys, values, end = extend_cache(self.key[...], self.value[...], start, key, value)
        self.key[...], self.value[...], self.index[...] = keys, values, end
        return keys.astype(key.dtype), values.astype(value.dtype), start

    def init_cache(self, shape: tuple[int, int, int, int], dtype: Dtype) -> None:
        """Make room for [batch, longest, heads, channels], and forget what was there."""
        axes = placed(self.sharding, "batch", None, "heads", None)
        self.key = nnx.Cache(jnp.zeros(shape, dtype), **axes)
        self.value = nnx.Cache(jnp.zeros(shape, dtype), **axes)
        self.index = nnx.Cache(jnp.array(0, jnp.int32))
