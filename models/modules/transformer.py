"""The Transformer that every block of the search is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import Mask, Positions
from ..functional.checks import check_input, check_rate
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .attention import MultiHeadAttention
from .feed_forward import FeedForward
from .norms import layer_norm

__all__ = ["TransformerBlock"]

Hidden = Float[Array, "batch length width"]


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
        check_rate(dropout_rate)
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
