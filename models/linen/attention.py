"""Causal self-attention in heads, plain and with Primer's convolutions, in full or step by step."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import PRIMER_FACTOR, Mask, Positions, attend, tanh_softmax_attention
from ..functional.checks import check_heads, check_length, check_positive
from ..functional.depthwise import initial_taps
from ..functional.initializers import FAN_IN_NORMAL, per_head_init
from ..functional.sharding import Sharding
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .layers import check_width, head_projection, output_projection, placed

__all__ = ["MultiDConvHeadAttention", "MultiHeadAttention", "PrimerAttention"]

Hidden = Float[Array, "batch length width"]


class MultiHeadAttention(nn.Module):
    """Causal softmax attention without biases (Vaswani et al. 2017, section 3.2).

    >>> import jax
    >>> x = jnp.ones((2, 5, 16))
    >>> y, variables = MultiHeadAttention(heads=4).init_with_output(jax.random.key(0), x, positions=jnp.arange(5))
    >>> y.shape
    (2, 5, 16)

    Attributes:
        heads: how many, a divisor of the width.
        dtype: of the computation; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        sharding: mesh axes of parameters and cache.
    """

    heads: int = 8
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(heads=self.heads)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Hidden, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
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
            ValueError: `x`, the mask or the positions do not fit, or there is no cache to decode with.
        """
        check_width(self, x, "key", "kernel")
        width = x.shape[-1]
        check_heads(width, self.heads)
        dense = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "sharding": self.sharding,
        }
        project = partial(head_projection, width, self.heads, **dense)
        heads = attend(
            project(name="query")(x),
            project(name="key")(x),
            project(name="value")(x),
            mask=mask,
            positions=positions,
            cache=KeyValueCache(self.sharding, name="cache") if decode else None,
        )
        return output_projection(width, self.heads, **dense, name="out")(heads)


class MultiDConvHeadAttention(nn.Module):
    """Multi-head attention with a causal depthwise convolution after each of the Q, K and V projections.

    A position's query, key and value hold something of the `kernel_size - 1` positions before. The convolutions do not
    read the `mask`: a text's first positions see the end of what was packed or padded before it.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3.

    >>> import jax
    >>> x = jnp.ones((2, 5, 16))
    >>> y, variables = MultiDConvHeadAttention(heads=4).init_with_output(jax.random.key(0), x)
    >>> y.shape
    (2, 5, 16)

    Attributes:
        heads: how many, a divisor of the width.
        kernel_size: positions that a convolution sums, the current one among them.
        dtype: of the computation; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        sharding: mesh axes of parameters and cache.
    """

    heads: int = 8
    kernel_size: int = 3
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(heads=self.heads, kernel_size=self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Hidden, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are those of `MultiHeadAttention`."""
        check_width(self, x, "key", "kernel")
        width = x.shape[-1]
        check_heads(width, self.heads)
        dense = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "sharding": self.sharding,
        }
        project = partial(head_projection, width, self.heads, **dense)
        convolve = partial(
            CausalDepthwiseConv,
            self.kernel_size,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=placed(initial_taps, self.sharding, None, "heads", None),
        )
        heads = attend(
            convolve(name="query_conv")(project(name="query")(x), decode),
            convolve(name="key_conv")(project(name="key")(x), decode),
            convolve(name="value_conv")(project(name="value")(x), decode),
            mask=mask,
            positions=positions,
            cache=KeyValueCache(self.sharding, name="cache") if decode else None,
        )
        return output_projection(width, self.heads, **dense, name="out")(heads)


class PrimerAttention(nn.Module):
    """Queries made of the keys, and a softmax squashed by tanh and scaled for each key position.

    Keys and values are projected, convolved and multiplied by -1.12; a query is a projection of its head's key. Scores
    are not scaled. The learned scales tie the module to a longest sequence; a shorter one reads the first of them.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", appendix A.2.

    >>> import jax
    >>> x = jnp.ones((2, 8, 16))
    >>> y, variables = PrimerAttention(length=8, heads=4).init_with_output(jax.random.key(0), x)
    >>> y.shape
    (2, 8, 16)

    Attributes:
        length: of the longest sequence.
        heads: how many, a divisor of the width.
        kernel_size: positions that a convolution sums, the current one among them.
        dtype: of the computation; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        sharding: mesh axes of parameters and cache.
    """

    length: int
    heads: int = 8
    kernel_size: int = 3
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(length=self.length, heads=self.heads, kernel_size=self.kernel_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Hidden, mask: Mask | None = None, positions: Positions | None = None, decode: bool = False
    ) -> Hidden:
        """Attend from each position to itself and earlier ones; the arguments are those of `MultiHeadAttention`."""
        check_width(self, x, "key", "kernel")
        check_length(x.shape[1], self.length)
        width = x.shape[-1]
        check_heads(width, self.heads)
        channels = width // self.heads
        dense = {
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": self.kernel_init,
            "sharding": self.sharding,
        }
        project = partial(head_projection, width, self.heads, **dense)
        convolve = partial(
            CausalDepthwiseConv,
            self.kernel_size,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=placed(initial_taps, self.sharding, None, "heads", None),
        )
        project_again = nn.Einsum(
            (self.heads, channels, channels),
            "blhc,hcd->blhd",
            use_bias=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=placed(per_head_init(self.kernel_init), self.sharding, "heads", None, None),
            name="query",
        )
        ones = placed(nn.initializers.ones, self.sharding, "heads", None)
        scale = self.param("position_scale", ones, (self.heads, self.length), self.param_dtype)

        key = PRIMER_FACTOR * convolve(name="key_conv")(project(name="key")(x), decode)
        value = PRIMER_FACTOR * convolve(name="value_conv")(project(name="value")(x), decode)
        _, scale = promote_dtype(value, scale, dtype=self.dtype)
        heads = attend(
            project_again(key),
            key,
            value,
            mask=mask,
            positions=positions,
            cache=KeyValueCache(self.sharding, name="cache") if decode else None,
            attention=partial(tanh_softmax_attention, scale=scale),
        )
        return output_projection(width, self.heads, **dense, name="out")(heads)
