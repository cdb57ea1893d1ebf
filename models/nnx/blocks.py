"""Primer-EZ: the two changes that carry over from Primer to any Transformer."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import Mask, Positions
from ..functional.checks import check_dropout_rate, check_input
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .attention import MultiDConvHeadAttention, MultiHeadAttention, PrimerAttention
from .feed_forward import FeedForward, SquaredReLU, SwiGLU
from .layers import layer_norm, rms_norm

__all__ = ["PrimerBlock", "PrimerEZBlock", "TransformerBlock", "TransformerPPBlock"]

Hidden = Float[Array, "batch length width"]


class PrimerEZBlock(nnx.Module):
    """Pre-norm decoder block with multi-dconv-head attention and squared ReLU.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> block = PrimerEZBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> x = jnp.ones((2, 6, 32))
    >>> block(x).shape
    (2, 6, 32)

    Decoding takes a prompt in one call, then token by token:

    >>> block.init_cache((2, 6, 32))
    >>> block(x[:, :5], decode=True).shape, block(x[:, 5:], decode=True).shape
    ((2, 5, 32), (2, 1, 32))

    Attributes:
        width: channels of input and output.
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        kernel_size: int = 3,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: of the attention.
            mlp_width: channels of the feed forward's hidden layer; None: 4 times the width.
            kernel_size: positions that the attention's convolutions sum, the current one among them.
            dropout_rate: share of what attention and feed forward add that is dropped.
            deterministic: whether nothing is dropped, unless a call says; `train()` and `eval()` set it.
            dtype: of the computation and the output; None: as Flax infers it from the input and the parameters.
            param_dtype: what parameters are kept in.
            kernel_init: of the dense layers.
            bias_init: of their biases.
            sharding: mesh axes of parameters and cache; needs the mesh in context (`jax.set_mesh`).
            rngs: the streams `params` and, where something is dropped, `dropout`.

        Raises:
            ValueError: the width does not divide into the heads, or a size or rate is out of range.
        """
        check_dropout_rate(dropout_rate)
        self.width, self.dtype = width, dtype
        mlp_width = 4 * width if mlp_width is None else mlp_width
        shared = {"dtype": dtype, "param_dtype": param_dtype, "sharding": sharding, "rngs": rngs}
        self.attention = MultiDConvHeadAttention(
            width, heads, kernel_size=kernel_size, kernel_init=kernel_init, **shared
        )
        self.feed_forward = FeedForward(
            width, mlp_width, SquaredReLU(), kernel_init=kernel_init, bias_init=bias_init, **shared
        )
        self.attention_norm = layer_norm(width, **shared)
        self.feed_forward_norm = layer_norm(width, **shared)
        self.dropout = nnx.Dropout(dropout_rate, deterministic=deterministic, rngs=rngs if dropout_rate else None)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`.

        Args:
            x: the inputs.
            mask: True where attention is allowed, broadcastable to [batch, heads, queries, keys], besides the causal
                mask: for padding, or several texts in one sequence. In `decode`, keys are as many as the cache is long.
            positions: [length] or [batch, length]; given, queries and keys are rotated by them (RoPE, Su et al. 2021,
                in the half-split layout of GPT-NeoX). In `decode`, those of the new positions.
            decode: `x` goes on where the last call with `decode` ended, by any number of new positions; more than
                `init_cache` made room for make the output NaN.
            deterministic: whether nothing is dropped; None: as the constructor, `train()` or `eval()` said.

        Raises:
            ValueError: `x`, the mask or the positions do not fit, or there is no cache (call `init_cache`).
        """
        check_input(x, self.width)
        x = jnp.asarray(x, self.dtype)
        attended = self.attention(self.attention_norm(x), mask=mask, positions=positions, decode=decode)
        x = x + self.dropout(attended, deterministic=deterministic)
        transformed = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(transformed, deterministic=deterministic)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions.
            dtype: what the cache keeps.
        """
        self.attention.init_cache(input_shape, dtype)


class PrimerBlock(nnx.Module):
    """The block the search ended with: `x + 2 f(x)` around Primer's attention and a twelve times wider feed forward.

    The attention is `PrimerAttention`. The feed forward squares its ReLU, has no bias on its output, and is normed
    after it instead of before. `PrimerEZBlock` is simpler, takes any length, and is as good (section 4).

    A learned scale for each key position ties the block to a longest sequence. Shorter ones read the first of the
    scales, so that the outputs of a prefix are those it has within the longer sequence.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3 and
    appendix A.2.

    >>> block = PrimerBlock(width=32, heads=4, length=8, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 8, 32))).shape, block(jnp.ones((2, 5, 32))).shape
    ((2, 8, 32), (2, 5, 32))

    Attributes:
        width: channels of input and output.
    """

    def __init__(
        self,
        width: int = 384,
        heads: int = 8,
        *,
        length: int,
        mlp_width: int | None = None,
        kernel_size: int = 3,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args other than these are those of `PrimerEZBlock`.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: of the attention.
            length: of the longest sequence.
            mlp_width: channels of the feed forward's hidden layer; None: 12 times the width.

        Raises:
            ValueError: the width does not divide into the heads, or a size or rate is out of range.
        """
        check_dropout_rate(dropout_rate)
        self.width, self.dtype = width, dtype
        mlp_width = 12 * width if mlp_width is None else mlp_width
        shared = {"dtype": dtype, "param_dtype": param_dtype, "sharding": sharding, "rngs": rngs}
        self.attention = PrimerAttention(
            width, heads, length=length, kernel_size=kernel_size, kernel_init=kernel_init, **shared
        )
        self.feed_forward = FeedForward(
            width,
            mlp_width,
            SquaredReLU(),
            use_out_bias=False,
            kernel_init=kernel_init,
            bias_init=bias_init,
            **shared,
        )
        self.attention_norm = layer_norm(width, **shared)
        self.feed_forward_norm = layer_norm(width, **shared)
        self.dropout = nnx.Dropout(dropout_rate, deterministic=deterministic, rngs=rngs if dropout_rate else None)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`.

        Raises:
            ValueError: the sequence is longer than the block was built for, or as in `PrimerEZBlock`.
        """
        check_input(x, self.width)
        x = jnp.asarray(x, self.dtype)
        attended = self.attention(self.attention_norm(x), mask=mask, positions=positions, decode=decode)
        x = x + 2 * self.dropout(attended, deterministic=deterministic)
        transformed = self.feed_forward_norm(self.feed_forward(x))
        return x + 2 * self.dropout(transformed, deterministic=deterministic)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions, at most `length`.
            dtype: what the cache keeps.
        """
        self.attention.init_cache(input_shape, dtype)


class TransformerBlock(nnx.Module):
    """Pre-norm decoder block with softmax attention and ReLU.

    Reference: Vaswani et al. 2017, "Attention Is All You Need", section 3, its norms moved as in So et al. 2021,
    section 2.

    >>> block = TransformerBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 6, 32))).shape
    (2, 6, 32)

    Attributes:
        width: channels of input and output.
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters; the arguments are those of `PrimerEZBlock`.

        Raises:
            ValueError: the width does not divide into the heads, or a size or rate is out of range.
        """
        check_dropout_rate(dropout_rate)
        self.width, self.dtype = width, dtype
        mlp_width = 4 * width if mlp_width is None else mlp_width
        shared = {"dtype": dtype, "param_dtype": param_dtype, "sharding": sharding, "rngs": rngs}
        self.attention = MultiHeadAttention(width, heads, kernel_init=kernel_init, **shared)
        self.feed_forward = FeedForward(
            width, mlp_width, nnx.relu, kernel_init=kernel_init, bias_init=bias_init, **shared
        )
        self.attention_norm = layer_norm(width, **shared)
        self.feed_forward_norm = layer_norm(width, **shared)
        self.dropout = nnx.Dropout(dropout_rate, deterministic=deterministic, rngs=rngs if dropout_rate else None)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`."""
        check_input(x, self.width)
        x = jnp.asarray(x, self.dtype)
        attended = self.attention(self.attention_norm(x), mask=mask, positions=positions, decode=decode)
        x = x + self.dropout(attended, deterministic=deterministic)
        transformed = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(transformed, deterministic=deterministic)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions.
            dtype: what the cache keeps.
        """
        self.attention.init_cache(input_shape, dtype)


class TransformerPPBlock(nnx.Module):
    """Pre-norm decoder block with RMS norm and SwiGLU, without biases.

    Reference: Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is from So et al. 2021, section 4.

    >>> block = TransformerPPBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 6, 32))).shape
    (2, 6, 32)

    Attributes:
        width: channels of input and output.
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters; the arguments are those of `PrimerEZBlock`, but an `mlp_width` of None is 3 widths.

        Raises:
            ValueError: the width does not divide into the heads, or a size or rate is out of range.
        """
        check_dropout_rate(dropout_rate)
        self.width, self.dtype = width, dtype
        mlp_width = 3 * width if mlp_width is None else mlp_width
        shared = {"dtype": dtype, "param_dtype": param_dtype, "sharding": sharding, "rngs": rngs}
        self.attention = MultiHeadAttention(width, heads, kernel_init=kernel_init, **shared)
        self.feed_forward = SwiGLU(width, mlp_width, kernel_init=kernel_init, **shared)
        self.attention_norm = rms_norm(width, **shared)
        self.feed_forward_norm = rms_norm(width, **shared)
        self.dropout = nnx.Dropout(dropout_rate, deterministic=deterministic, rngs=rngs if dropout_rate else None)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`."""
        check_input(x, self.width)
        x = jnp.asarray(x, self.dtype)
        attended = self.attention(self.attention_norm(x), mask=mask, positions=positions, decode=decode)
        x = x + self.dropout(attended, deterministic=deterministic)
        transformed = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(transformed, deterministic=deterministic)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Begin a decode.

        Args:
            input_shape: (batch, longest, width): the cache has room for `longest` positions.
            dtype: what the cache keeps.
        """
        self.attention.init_cache(input_shape, dtype)
