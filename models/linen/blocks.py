"""The four decoder blocks: Transformer, Transformer++, Primer-EZ and Primer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from ..functional.attention import Hidden, Mask, Positions, SegmentIds
from ..functional.checks import check_dropout_rate
from .attention import CausalAttention, MultiDConvHeadAttention, MultiHeadAttention, PrimerAttention
from .feed_forward import FeedForward, SquaredReLU, SwiGLU
from .layers import LayerModule, check_width, layer_norm, rms_norm

__all__ = ["PrimerBlock", "PrimerEZBlock", "TransformerBlock", "TransformerPPBlock"]

Branch = Callable[[Hidden], Hidden]


class DecoderBlock(LayerModule):
    """Base class of the blocks: attention and feed forward, each with a norm, dropout and a residual connection.

    Attributes:
        heads: number of attention heads, a divisor of the width.
        mlp_width: channels of the feed forward's hidden layer; None: the default multiple of the width of the block.
        dropout_rate: dropout rate of the outputs of attention and feed forward.
        deterministic: whether dropout is off by default. With dropout, `apply` needs the random stream `dropout`.
    """

    heads: int = 8
    mlp_width: int | None = None
    dropout_rate: float = 0.0
    deterministic: bool = False

    def __post_init__(self):
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
            deterministic: whether to turn dropout off; None: the value of the module's attribute.
            segment_ids: ids that keep the texts of one sequence apart (`functional.attention.SegmentIds`).

        Raises:
            ValueError: `x`, the mask, the positions or the ids do not fit, the cache to decode with is missing, or a
                `PrimerBlock` gets segment ids or a sequence longer than its `length`.
        """
        check_width(self, x, "attention_norm", "scale")
        deterministic = self.deterministic if deterministic is None else deterministic
        apart = {"mask": mask, "segment_ids": segment_ids}
        attend = partial(self._attention(), **apart, positions=positions, decode=decode)
        drop = partial(nn.Dropout(self.dropout_rate), deterministic=deterministic)
        return self._add_branches(jnp.asarray(x, self.dtype), attend, self._feed_forward(x.shape[-1]), drop)

    def _attention(self) -> CausalAttention:
        return MultiHeadAttention(self.heads, **self.shared_fields(), name="attention")

    def _feed_forward(self, width: int) -> FeedForward | SwiGLU:
        raise NotImplementedError

    def _norm(self, name: str) -> nn.LayerNorm | nn.RMSNorm:
        return layer_norm(self, name)

    def _add_branches(self, x: Hidden, attend: Branch, feed_forward: Branch, drop: Branch) -> Hidden:
        x = x + drop(attend(self._norm("attention_norm")(x)))
        return x + drop(feed_forward(self._norm("feed_forward_norm")(x)))


class TransformerBlock(DecoderBlock):
    """Pre-norm decoder block with softmax attention and ReLU; `mlp_width` is 4 times the width by default.

    Reference: Vaswani et al. 2017, "Attention Is All You Need", section 3, with the norms placed as in So et al. 2021,
    section 2.

    >>> import jax
    >>> block, x = TransformerBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)

    Attributes:
        bias_init: initializer of the biases of dense layers.
    """

    bias_init: Initializer = nn.initializers.zeros

    def _feed_forward(self, width: int) -> FeedForward:
        options = {"bias_init": self.bias_init, **self.shared_fields()}
        return FeedForward(self.mlp_width or 4 * width, nn.relu, **options, name="feed_forward")


class TransformerPPBlock(DecoderBlock):
    """Transformer++: pre-norm decoder block with RMS norm and SwiGLU, without biases.

    `mlp_width` is 3 times the width by default.

    Reference: Zhang and Sennrich 2019 (RMS norm), Shazeer 2020 (SwiGLU); the name is from So et al. 2021, section 4.

    >>> import jax
    >>> block, x = TransformerPPBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)
    """

    def _feed_forward(self, width: int) -> SwiGLU:
        return SwiGLU(self.mlp_width or 3 * width, **self.shared_fields(), name="feed_forward")

    def _norm(self, name: str) -> nn.RMSNorm:
        return rms_norm(self, name)


class PrimerEZBlock(DecoderBlock):
    """Primer-EZ: pre-norm decoder block with multi-dconv-head attention and squared ReLU.

    These are the two changes of Primer that improve any Transformer. `mlp_width` is 4 times the width by default.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax
    >>> block, x = PrimerEZBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x).shape
    (2, 6, 32)

    Attributes:
        kernel_size: positions that the attention's convolutions sum, the current one included.
        bias_init: initializer of the biases of dense layers.
    """

    kernel_size: int = 3
    bias_init: Initializer = nn.initializers.zeros

    def _attention(self) -> MultiDConvHeadAttention:
        return MultiDConvHeadAttention(self.heads, self.kernel_size, **self.shared_fields(), name="attention")

    def _feed_forward(self, width: int) -> FeedForward:
        shared = {"bias_init": self.bias_init, **self.shared_fields()}
        return FeedForward(self.mlp_width or 4 * width, SquaredReLU(), **shared, name="feed_forward")


class PrimerBlock(DecoderBlock, kw_only=True):
    """Primer, the result of the paper's search: `x + 2 f(x)` around `PrimerAttention` and around a feed forward.

    The feed forward is 12 times wider than the block. It has squared ReLU, no bias on its output, and a norm after it
    instead of before it. `PrimerEZBlock` is simpler, takes any length, and is as good (section 4).

    The attention learns a scale for each key position, which limits the sequence length. A shorter sequence uses the
    first scales, so its outputs are the same alone and as the beginning of a longer sequence.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 3 and
    appendix A.2.

    >>> import jax
    >>> block, x = PrimerBlock(heads=4, length=8), jnp.ones((2, 8, 32))
    >>> variables = block.init(jax.random.key(0), x)
    >>> block.apply(variables, x[:, :5]).shape
    (2, 5, 32)

    Attributes:
        length: longest sequence.
        kernel_size: positions that the attention's convolutions sum, the current one included.
        bias_init: initializer of the biases of dense layers.
    """

    length: int
    kernel_size: int = 3
    bias_init: Initializer = nn.initializers.zeros

    def _attention(self) -> PrimerAttention:
        sizes = {"length": self.length, "kernel_size": self.kernel_size}
        return PrimerAttention(self.heads, **sizes, **self.shared_fields(), name="attention")

    def _feed_forward(self, width: int) -> FeedForward:
        shared = {"bias_init": self.bias_init, **self.shared_fields()}
        mlp_width = self.mlp_width or 12 * width
        return FeedForward(mlp_width, SquaredReLU(), use_out_bias=False, **shared, name="feed_forward")

    def _add_branches(self, x: Hidden, attend: Branch, feed_forward: Branch, drop: Branch) -> Hidden:
        x = x + 2 * drop(attend(self._norm("attention_norm")(x)))
        return x + 2 * drop(self._norm("feed_forward_norm")(feed_forward(x)))
