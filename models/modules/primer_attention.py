"""The attention that Primer's search ended with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import PRIMER_FACTOR, Mask, Positions, attend, squashed_attention
from ..functional.checks import check_cache_shape, check_heads, check_input, check_length, check_positive
from ..functional.initializers import FAN_IN_NORMAL, each_head
from ..functional.sharding import Sharding
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .projections import head_projection, output_projection
from .sharding import placed

__all__ = ["PrimerAttention"]

Hidden = Float[Array, "batch length width"]


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
            kernel_init=each_head(kernel_init),
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
            attention=partial(squashed_attention, scale=scale),
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
