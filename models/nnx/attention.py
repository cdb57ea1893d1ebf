"""Causal self-attention in heads, plain and with Primer's convolutions, in full or step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import PRIMER_FACTOR, Mask, Positions, attend, tanh_softmax_attention
from ..functional.checks import check_cache_shape, check_heads, check_input, check_length, check_positive
from ..functional.initializers import FAN_IN_NORMAL, per_head_init
from ..functional.sharding import Sharding
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .layers import head_projection, output_projection, placed

__all__ = ["MultiDConvHeadAttention", "MultiHeadAttention", "PrimerAttention"]

Hidden = Float[Array, "batch length width"]


class MultiHeadAttention(nnx.Module):
    """Causal softmax attention without biases (Vaswani et al. 2017, section 3.2).

    >>> attention = MultiHeadAttention(16, heads=4, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 5, 16)), positions=jnp.arange(5)).shape
    (2, 5, 16)

    Attributes:
        width: channels of input and output.
        heads: how many; each is width / heads channels wide.
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: how many.
            dtype: of the computation; None: as Flax infers it from the input and the parameters.
            param_dtype: what parameters are kept in.
            kernel_init: of the four dense layers.
            sharding: mesh axes of parameters and cache; needs the mesh in context (`jax.set_mesh`).
            rngs: the stream `params` is drawn from.

        Raises:
            ValueError: the width does not divide into the heads.
        """
        check_heads(width, heads)
        self.width, self.heads = width, heads
        dense = {"dtype": dtype, "param_dtype": param_dtype, "kernel_init": kernel_init, "sharding": sharding}
        self.query = head_projection(width, heads, **dense, rngs=rngs)
        self.key = head_projection(width, heads, **dense, rngs=rngs)
        self.value = head_projection(width, heads, **dense, rngs=rngs)
        self.out = output_projection(width, heads, **dense, rngs=rngs)
        self.cache = KeyValueCache(sharding)

    def __call__(
        self, x: Hidden, *, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
    ) -> Hidden:
        """Attend from each position to itself and earlier ones.

        Args:
            x: the inputs.
            mask: True where attention is allowed, broadcastable to [batch, heads, queries, keys], besides the causal
                mask: for padding, or several texts in one sequence. In `decode`, keys are as many as the cache is long.
            positions: [length] or [batch, length]; given, queries and keys are rotated by them (RoPE, Su et al. 2021,
                in the half-split layout of GPT-NeoX). In `decode`, those of the new positions.
            decode: `x` goes on where the last call with `decode` ended, by any number of new positions.

        Raises:
            ValueError: `x`, the mask or the positions do not fit, or there is no cache (call `init_cache`).
        """
        check_input(x, self.width)
        heads = attend(
            self.query(x),
            self.key(x),
            self.value(x),
            mask=mask,
            positions=positions,
            cache=self.cache if decode else None,
        )
        return self.out(heads)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions.
            dtype: what keys and values are kept in.
        """
        batch, longest = check_cache_shape(input_shape, self.width)
        self.cache.init_cache((batch, longest, self.heads, self.width // self.heads), dtype)


class MultiDConvHeadAttention(nnx.Module):
    """Multi-head attention with a causal depthwise convolution after each of the Q, K and V projections.

    A position's query, key and value hold something of the `kernel_size - 1` positions before. The convolutions do not
    read the `mask`: a text's first positions see the end of what was packed or padded before it.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> attention = MultiDConvHeadAttention(16, heads=4, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 5, 16))).shape
    (2, 5, 16)

    Attributes:
        width: channels of input and output.
        heads: how many; each is width / heads channels wide.
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        kernel_size: int = 3,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: how many.
            kernel_size: positions that a convolution sums, the current one among them.
            dtype: of the computation; None: as Flax infers it from the input and the parameters.
            param_dtype: what parameters are kept in.
            kernel_init: of the four dense layers; the convolutions start as `CausalDepthwiseConv` does.
            sharding: mesh axes of parameters and cache; needs the mesh in context (`jax.set_mesh`).
            rngs: the stream `params` is drawn from.

        Raises:
            ValueError: the width does not divide into the heads, or the kernel size is below 1.
        """
        check_heads(width, heads)
        self.width, self.heads = width, heads
        dense = {"dtype": dtype, "param_dtype": param_dtype, "kernel_init": kernel_init, "sharding": sharding}
        self.query = head_projection(width, heads, **dense, rngs=rngs)
        self.key = head_projection(width, heads, **dense, rngs=rngs)
        self.value = head_projection(width, heads, **dense, rngs=rngs)
        self.out = output_projection(width, heads, **dense, rngs=rngs)
        conv = partial(
            CausalDepthwiseConv,
            (heads, width // heads),
            kernel_size,
            dtype=dtype,
            param_dtype=param_dtype,
            kernel_metadata=placed(sharding, None, "heads", None),
            rngs=rngs,
        )
        self.query_conv, self.key_conv, self.value_conv = conv(), conv(), conv()
        self.cache = KeyValueCache(sharding)

    def __call__(
        self, x: Hidden, *, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are those of `MultiHeadAttention`."""
        check_input(x, self.width)
        if decode:
            self.cache.check_cache_space(x)  # before the convolutions go on
        heads = attend(
            self.query_conv(self.query(x), decode=decode),
            self.key_conv(self.key(x), decode=decode),
            self.value_conv(self.value(x), decode=decode),
            mask=mask,
            positions=positions,
            cache=self.cache if decode else None,
        )
        return self.out(heads)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions.
            dtype: what keys, values and the convolutions' last inputs are kept in.
        """
        batch, longest = check_cache_shape(input_shape, self.width)
        shape = (batch, longest, self.heads, self.width // self.heads)
        self.cache.init_cache(shape, dtype)
        for conv in (self.query_conv, self.key_conv, self.value_conv):
            conv.init_cache(shape, dtype)


class PrimerAttention(nnx.Module):
    """Queries made of the keys, and a softmax squashed by tanh and scaled for each key position.

    Keys and values are projected, convolved and multiplied by -1.12; a query is a projection of its head's key. Scores
    are not scaled. The learned scales tie the module to a longest sequence; a shorter one reads the first of them.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", appendix A.2.

    >>> attention = PrimerAttention(16, heads=4, length=8, rngs=nnx.Rngs(0))
    >>> attention(jnp.ones((2, 8, 16))).shape
    (2, 8, 16)

    Attributes:
        width: channels of input and output.
        heads: how many; each is width / heads channels wide.
        length: of the longest sequence.
    """

    def __init__(
        self,
        width: int = 384,
        heads: int = 8,
        *,
        length: int,
        kernel_size: int = 3,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters; `length` is that of the longest sequence, the rest as `MultiDConvHeadAttention`."""
        check_heads(width, heads)
        check_positive(length=length)
        self.width, self.heads, self.length = width, heads, length
        self.dtype = dtype
        channels = width // heads
        dense = {"dtype": dtype, "param_dtype": param_dtype, "kernel_init": kernel_init, "sharding": sharding}
        self.key = head_projection(width, heads, **dense, rngs=rngs)
        self.value = head_projection(width, heads, **dense, rngs=rngs)
        self.query = nnx.Einsum(
            "blhc,hcd->blhd",
            (heads, channels, channels),
            dtype=dtype,
            param_dtype=param_dtype,
            kernel_init=per_head_init(kernel_init),
            kernel_metadata=placed(sharding, "heads", None, None),
            rngs=rngs,
        )
        self.out = output_projection(width, heads, **dense, rngs=rngs)
        conv = partial(
            CausalDepthwiseConv,
            (heads, channels),
            kernel_size,
            dtype=dtype,
            param_dtype=param_dtype,
            kernel_metadata=placed(sharding, None, "heads", None),
            rngs=rngs,
        )
        self.key_conv, self.value_conv = conv(), conv()
        self.position_scale = nnx.Param(jnp.ones((heads, length), param_dtype), **placed(sharding, "heads", None))
        self.cache = KeyValueCache(sharding)

    def __call__(
        self, x: Hidden, *, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are those of `MultiHeadAttention`."""
        check_input(x, self.width)
        check_length(x.shape[1], self.length)
        key = PRIMER_FACTOR * self.key_conv(self.key(x), decode=decode)
        value = PRIMER_FACTOR * self.value_conv(self.value(x), decode=decode)
        query = self.query(key)
        _, scale = promote_dtype((value, self.position_scale[...]), dtype=self.dtype)
        heads = attend(
            query,
            key,
            value,
            mask=mask,
            positions=positions,
            cache=self.cache if decode else None,
            attention=partial(tanh_softmax_attention, scale=scale),
        )
        return self.out(heads)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode; the arguments are those of `MultiDConvHeadAttention.init_cache`.

        Raises:
            ValueError: it is longer than the attention was built for.
        """
        batch, longest = check_cache_shape(input_shape, self.width)
        check_length(longest, self.length)
        shape = (batch, longest, self.heads, self.width // self.heads)
        self.cache.init_cache(shape, dtype)
        self.key_conv.init_cache(shape, dtype)
        self.value_conv.init_cache(shape, dtype)
