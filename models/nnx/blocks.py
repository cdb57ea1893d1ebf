"""The four decoder blocks: Transformer, Transformer++, Primer-EZ and Primer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype, Initializer

from ..functional.attention import Hidden, Mask, Positions, SegmentIds
from ..functional.checks import check_dropout_rate, check_input
from .attention import CausalAttention, MultiDConvHeadAttention, MultiHeadAttention, PrimerAttention
from .feed_forward import FeedForward, SquaredReLU, SwiGLU
from .layers import LayerOptions, layer_norm, rms_norm

__all__ = ["PrimerBlock", "PrimerEZBlock", "TransformerBlock", "TransformerPPBlock"]


class BlockOptions(LayerOptions, total=False):
    """Keyword arguments of every block: `LayerOptions`, and these.

    Attributes:
        dropout_rate: dropout rate of the outputs of attention and feed forward, 0 by default.
        deterministic: whether dropout is off by default; `train()` and `eval()` change it.
    """

    dropout_rate: float
    deterministic: bool


class DecoderBlock(nnx.Module):
    """Base class of the blocks: attention and feed forward, each with a norm, dropout and a residual connection.

    Attributes:
        width: channels of input and output.
    """

    def __init__(
        self,
        attention: Callable[..., CausalAttention],
        feed_forward: Callable[..., FeedForward | SwiGLU],
        norm: Callable[..., nnx.LayerNorm | nnx.RMSNorm],
        *,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        **options: Unpack[LayerOptions],
    ):
        check_dropout_rate(dropout_rate)
        self.attention, self.feed_forward = attention(**options), feed_forward(**options)
        self.width, self.dtype = self.attention.width, options.get("dtype")
        self.attention_norm = norm(self.width, **options)
        self.feed_forward_norm = norm(self.width, **options)
        rngs = options["rngs"] if dropout_rate else None
        self.dropout = nnx.Dropout(dropout_rate, deterministic=deterministic, rngs=rngs)

    def __call__(
        self,
        x: Hidden,
        *,
        mask: Mask | None = None,
        positions: Positions | None = None,
        decode: bool = False,
        deterministic: bool | None = None,
        segment_ids: SegmentIds | None = None,
    ) -> Hidden:
        """Return the block's output at the positions of `x`.

        Args:
            x: inputs.
            mask: positions that a position may read, in addition to the causal mask (`functional.attention.Mask`).
                Attention and convolutions follow it.
            positions: rotary positions; None: no rotation (`functional.attention.Positions`).
            decode: whether to continue the sequence of the last call with `decode`, by any number of new positions.
                Past the end of the cache the output is NaN.
            deterministic: whether to turn dropout off; None: as set by the constructor, `train()` or `eval()`.
            segment_ids: ids that keep the texts of one sequence apart (`functional.attention.SegmentIds`).

        Raises:
            ValueError: `x`, the mask, the positions or the ids do not fit, the cache is missing (call `init_cache`), or
                a `PrimerBlock` gets segment ids or a sequence longer than its `length`.
        """
        check_input(x, self.width)
        attend = partial(self.attention, mask=mask, positions=positions, decode=decode, segment_ids=segment_ids)
        drop = partial(self.dropout, deterministic=deterministic)
        return self._add_branches(jnp.asarray(x, self.dtype), attend, drop)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Start a new sequence for `decode`, with a cache for the input shape (batch, longest, width)."""
        self.attention.init_cache(input_shape, dtype)

    def _add_branches(self, x: Hidden, attend: Callable[..., Hidden], drop: Callable[..., Hidden]) -> Hidden:
        x = x + drop(attend(self.attention_norm(x)))
        return x + drop(self.feed_forward(self.feed_forward_norm(x)))


class TransformerBlock(DecoderBlock):
    """Pre-norm decoder block with softmax attention and ReLU.

    Reference: Vaswani et al. 2017, "Attention Is All You Need", section 3, with the norms placed as in So et al. 2021,
    section 2.

    >>> block = TransformerBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 6, 32))).shape
    (2, 6, 32)
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        bias_init: Initializer = nnx.initializers.zeros,
        **options: Unpack[BlockOptions],
    ):
        """Initialize the parameters; the arguments are those of `PrimerEZBlock`, except `kernel_size`."""
        attention = partial(MultiHeadAttention, width, heads)
        mlp_width = 4 * width if mlp_width is None else mlp_width
        feed_forward = partial(FeedForward, width, mlp_width, nnx.relu, bias_init=bias_init)
        super().__init__(attention, feed_forward, layer_norm, **options)


class TransformerPPBlock(DecoderBlock):
    """Transformer++: pre-norm decoder block with RMS norm and SwiGLU, without biases.

    Reference: Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is from So et al. 2021, section 4.

    >>> block = TransformerPPBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 6, 32))).shape
    (2, 6, 32)
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        **options: Unpack[BlockOptions],
    ):
        """Initialize the parameters; the arguments are those of `PrimerEZBlock`, without `kernel_size` and `bias_init`.

        `mlp_width` is 3 times the width by default.
        """
        attention = partial(MultiHeadAttention, width, heads)
        feed_forward = partial(SwiGLU, width, 3 * width if mlp_width is None else mlp_width)
        super().__init__(attention, feed_forward, rms_norm, **options)


class PrimerEZBlock(DecoderBlock):
    """Primer-EZ: pre-norm decoder block with multi-dconv-head attention and squared ReLU.

    These are the two changes of Primer that improve any Transformer.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> block = PrimerEZBlock(width=32, heads=4, rngs=nnx.Rngs(0))
    >>> x = jnp.ones((2, 6, 32))
    >>> block(x).shape
    (2, 6, 32)

    To decode, pass a prompt in one call, then one token per call:

    >>> block.init_cache((2, 6, 32))
    >>> block(x[:, :5], decode=True).shape, block(x[:, 5:], decode=True).shape
    ((2, 5, 32), (2, 1, 32))
    """

    def __init__(
        self,
        width: int = 512,
        heads: int = 8,
        *,
        mlp_width: int | None = None,
        kernel_size: int = 3,
        bias_init: Initializer = nnx.initializers.zeros,
        **options: Unpack[BlockOptions],
    ):
        """Initialize the parameters.

        Args:
            width: channels of input and output, a multiple of `heads`.
            heads: number of attention heads.
            mlp_width: channels of the feed forward's hidden layer; None: 4 times the width.
            kernel_size: positions that the attention's convolutions sum, the current one included.
            bias_init: initializer of the biases of dense layers.
            **options: `BlockOptions`.

        Raises:
            ValueError: the width is not a multiple of the heads, or a size or rate is out of range.
        """
        attention = partial(MultiDConvHeadAttention, width, heads, kernel_size=kernel_size)
        mlp_width = 4 * width if mlp_width is None else mlp_width
        feed_forward = partial(FeedForward, width, mlp_width, SquaredReLU(), bias_init=bias_init)
        super().__init__(attention, feed_forward, layer_norm, **options)


class PrimerBlock(DecoderBlock):
    """Primer, the result of the paper's search: `x + 2 f(x)` around `PrimerAttention` and around a feed forward.

    The feed forward is 12 times wider than the block. It has squared ReLU, no bias on its output, and a norm after it
    instead of before it. `PrimerEZBlock` is simpler, takes any length, and is as good (section 4).

    The attention learns a scale for each key position, which limits the sequence length. A shorter sequence uses the
    first scales, so its outputs are the same alone and as the beginning of a longer sequence.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3 and
    appendix A.2.

    >>> block = PrimerBlock(width=32, heads=4, length=8, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((2, 8, 32))).shape, block(jnp.ones((2, 5, 32))).shape
    ((2, 8, 32), (2, 5, 32))
    """

    def __init__(
        self,
        width: int = 384,
        heads: int = 8,
        *,
        length: int,
        mlp_width: int | None = None,
        kernel_size: int = 3,
        bias_init: Initializer = nnx.initializers.zeros,
        **options: Unpack[BlockOptions],
    ):
        """Initialize the parameters; the other arguments are those of `PrimerEZBlock`.

        Args:
            length: longest sequence.
            mlp_width: channels of the feed forward's hidden layer; None: 12 times the width.
        """
        attention = partial(PrimerAttention, width, heads, length=length, kernel_size=kernel_size)
        mlp_width = 12 * width if mlp_width is None else mlp_width
        feed_forward = partial(FeedForward, width, mlp_width, SquaredReLU(), use_out_bias=False, bias_init=bias_init)
        super().__init__(attention, feed_forward, layer_norm, **options)

    def _add_branches(self, x: Hidden, attend: Callable[..., Hidden], drop: Callable[..., Hidden]) -> Hidden:
        x = x + 2 * drop(attend(self.attention_norm(x)))
        return x + 2 * drop(self.feed_forward_norm(self.feed_forward(x)))
