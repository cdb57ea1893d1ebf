"""Primer-EZ: the two changes that carry over from Primer to any Transformer."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import Mask, Positions
from ..functional.checks import check_dropout_rate, check_length, check_positive
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .attention import MultiDConvHeadAttention, MultiHeadAttention, PrimerAttention
from .feed_forward import FeedForward, SquaredReLU, SwiGLU
from .layers import check_width, layer_norm, rms_norm

__all__ = ["PrimerBlock", "PrimerEZBlock", "TransformerBlock", "TransformerPPBlock"]

Hidden = Float[Array, "batch length width"]


class PrimerEZBlock(nn.Module):
    """Pre-norm decoder block with multi-dconv-head attention and squared ReLU.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax
    >>> block, x = PrimerEZBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)

    Attributes:
        heads: of the attention, a divisor of the width.
        kernel_size: positions that the attention's convolutions sum, the current one among them.
        mlp_width: channels of the feed forward's hidden layer; None: 4 times the width.
        dropout_rate: share of what attention and feed forward add that is dropped.
        deterministic: whether nothing is dropped, unless a call says; else `apply` needs the stream `dropout`.
        dtype: of the computation and the output; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        bias_init: of their biases.
        sharding: mesh axes of parameters and cache.
    """

    heads: int = 8
    kernel_size: int = 3
    mlp_width: int | None = None
    dropout_rate: float = 0.0
    deterministic: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    bias_init: Initializer = nn.initializers.zeros
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(
            heads=self.heads, kernel_size=self.kernel_size, mlp_width=1 if self.mlp_width is None else self.mlp_width
        )
        check_dropout_rate(self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Hidden,
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
            decode: `x` goes on where the last call with `decode` ended, by any number of new positions; more than the
                cache has room for make the output NaN.
            deterministic: whether nothing is dropped; None: as the module's attribute says.

        Raises:
            ValueError: `x`, the mask or the positions do not fit, or there is no cache to decode with.
        """
        check_width(self, x, "attention_norm", "scale")
        x = jnp.asarray(x, self.dtype)
        shared = {"dtype": self.dtype, "param_dtype": self.param_dtype, "sharding": self.sharding}
        mlp_width = 4 * x.shape[-1] if self.mlp_width is None else self.mlp_width
        attention = MultiDConvHeadAttention(
            self.heads, self.kernel_size, kernel_init=self.kernel_init, **shared, name="attention"
        )
        feed_forward = FeedForward(
            mlp_width,
            SquaredReLU(),
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            **shared,
            name="feed_forward",
        )
        attention_norm = layer_norm(**shared, name="attention_norm")
        feed_forward_norm = layer_norm(**shared, name="feed_forward_norm")
        dropout = nn.Dropout(self.dropout_rate)
        deterministic = self.deterministic if deterministic is None else deterministic

        attended = attention(attention_norm(x), mask, positions, decode)
        x = x + dropout(attended, deterministic)
        transformed = feed_forward(feed_forward_norm(x))
        return x + dropout(transformed, deterministic)


class PrimerBlock(nn.Module):
    """The block the search ended with: `x + 2 f(x)` around Primer's attention and a twelve times wider feed forward.

    The attention is `PrimerAttention`. The feed forward squares its ReLU, has no bias on its output, and is normed
    after it instead of before. `PrimerEZBlock` is simpler, takes any length, and is as good (section 4).

    A learned scale for each key position ties the block to a longest sequence. Shorter ones read the first of the
    scales, so that the outputs of a prefix are those it has within the longer sequence.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3 and
    appendix A.2.

    >>> import jax
    >>> block, x = PrimerBlock(length=8, heads=4), jnp.ones((2, 8, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x[:, :5]).shape
    (2, 5, 32)

    Attributes:
        length: of the longest sequence.
        heads: of the attention, a divisor of the width.
        kernel_size: positions that the attention's convolutions sum, the current one among them.
        mlp_width: channels of the feed forward's hidden layer; None: 12 times the width.
        dropout_rate: share of what attention and feed forward add that is dropped.
        deterministic: whether nothing is dropped, unless a call says; else `apply` needs the stream `dropout`.
        dtype: of the computation and the output; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        bias_init: of their biases.
        sharding: mesh axes of parameters and cache.
    """

    length: int
    heads: int = 8
    kernel_size: int = 3
    mlp_width: int | None = None
    dropout_rate: float = 0.0
    deterministic: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    bias_init: Initializer = nn.initializers.zeros
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(
            length=self.length,
            heads=self.heads,
            kernel_size=self.kernel_size,
            mlp_width=1 if self.mlp_width is None else self.mlp_width,
        )
        check_dropout_rate(self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`.

        Raises:
            ValueError: the sequence is longer than the block was built for, or as in `PrimerEZBlock`.
        """
        check_width(self, x, "attention_norm", "scale")
        check_length(x.shape[1], self.length)
        x = jnp.asarray(x, self.dtype)
        shared = {"dtype": self.dtype, "param_dtype": self.param_dtype, "sharding": self.sharding}
        mlp_width = 12 * x.shape[-1] if self.mlp_width is None else self.mlp_width
        attention = PrimerAttention(
            self.length, self.heads, self.kernel_size, kernel_init=self.kernel_init, **shared, name="attention"
        )
        feed_forward = FeedForward(
            mlp_width,
            SquaredReLU(),
            use_out_bias=False,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            **shared,
            name="feed_forward",
        )
        attention_norm = layer_norm(**shared, name="attention_norm")
        feed_forward_norm = layer_norm(**shared, name="feed_forward_norm")
        dropout = nn.Dropout(self.dropout_rate)
        deterministic = self.deterministic if deterministic is None else deterministic

        attended = attention(attention_norm(x), mask, positions, decode)
        x = x + 2 * dropout(attended, deterministic)
        transformed = feed_forward_norm(feed_forward(x))
        return x + 2 * dropout(transformed, deterministic)


class TransformerBlock(nn.Module):
    """Pre-norm decoder block with softmax attention and ReLU.

    Reference: Vaswani et al. 2017, "Attention Is All You Need", section 3, its norms moved as in So et al. 2021,
    section 2.

    >>> import jax
    >>> block, x = TransformerBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)

    Attributes:
        heads: of the attention, a divisor of the width.
        mlp_width: channels of the feed forward's hidden layer; None: 4 times the width.
        dropout_rate: share of what attention and feed forward add that is dropped.
        deterministic: whether nothing is dropped, unless a call says; else `apply` needs the stream `dropout`.
        dtype: of the computation and the output; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        bias_init: of their biases.
        sharding: mesh axes of parameters and cache.
    """

    heads: int = 8
    mlp_width: int | None = None
    dropout_rate: float = 0.0
    deterministic: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    bias_init: Initializer = nn.initializers.zeros
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(heads=self.heads, mlp_width=1 if self.mlp_width is None else self.mlp_width)
        check_dropout_rate(self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`."""
        check_width(self, x, "attention_norm", "scale")
        x = jnp.asarray(x, self.dtype)
        shared = {"dtype": self.dtype, "param_dtype": self.param_dtype, "sharding": self.sharding}
        mlp_width = 4 * x.shape[-1] if self.mlp_width is None else self.mlp_width
        attention = MultiHeadAttention(self.heads, kernel_init=self.kernel_init, **shared, name="attention")
        feed_forward = FeedForward(
            mlp_width, nn.relu, kernel_init=self.kernel_init, bias_init=self.bias_init, **shared, name="feed_forward"
        )
        attention_norm = layer_norm(**shared, name="attention_norm")
        feed_forward_norm = layer_norm(**shared, name="feed_forward_norm")
        dropout = nn.Dropout(self.dropout_rate)
        deterministic = self.deterministic if deterministic is None else deterministic

        attended = attention(attention_norm(x), mask, positions, decode)
        x = x + dropout(attended, deterministic)
        transformed = feed_forward(feed_forward_norm(x))
        return x + dropout(transformed, deterministic)


class TransformerPPBlock(nn.Module):
    """Pre-norm decoder block with RMS norm and SwiGLU, without biases.

    Reference: Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is from So et al. 2021, section 4.

    >>> import jax
    >>> block, x = TransformerPPBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)

    Attributes:
        heads: of the attention, a divisor of the width.
        mlp_width: channels of the feed forward's hidden layer; None: 3 times the width.
        dropout_rate: share of what attention and feed forward add that is dropped.
        deterministic: whether nothing is dropped, unless a call says; else `apply` needs the stream `dropout`.
        dtype: of the computation and the output; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the dense layers.
        sharding: mesh axes of parameters and cache.
    """

    heads: int = 8
    mlp_width: int | None = None
    dropout_rate: float = 0.0
    deterministic: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(heads=self.heads, mlp_width=1 if self.mlp_width is None else self.mlp_width)
        check_dropout_rate(self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
    ) -> Hidden:
        """The block's output, at the positions of `x`; the arguments are those of `PrimerEZBlock`."""
        check_width(self, x, "attention_norm", "scale")
        x = jnp.asarray(x, self.dtype)
        shared = {"dtype": self.dtype, "param_dtype": self.param_dtype, "sharding": self.sharding}
        mlp_width = 3 * x.shape[-1] if self.mlp_width is None else self.mlp_width
        attention = MultiHeadAttention(self.heads, kernel_init=self.kernel_init, **shared, name="attention")
        feed_forward = SwiGLU(mlp_width, kernel_init=self.kernel_init, **shared, name="feed_forward")
        attention_norm = rms_norm(**shared, name="attention_norm")
        feed_forward_norm = rms_norm(**shared, name="feed_forward_norm")
        dropout = nn.Dropout(self.dropout_rate)
        deterministic = self.deterministic if deterministic is None else deterministic

        attended = attention(attention_norm(x), mask, positions, decode)
        x = x + dropout(attended, deterministic)
        transformed = feed_forward(feed_forward_norm(x))
        return x + dropout(transformed, deterministic)
