"""The attention that Primer's search ended with."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import PRIMER_FACTOR, Mask, Positions, attend, squashed_attention
from ..functional.checks import check_heads, check_length, check_positive
from ..functional.depthwise import initial_taps
from ..functional.initializers import FAN_IN_NORMAL, each_head
from ..functional.sharding import Sharding
from .causal_depthwise_conv import CausalDepthwiseConv
from .key_value_cache import KeyValueCache
from .projections import head_projection, output_projection
from .sharding import placed
from .widths import check_width

__all__ = ["PrimerAttention"]

Hidden = Float[Array, "batch length width"]


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
            kernel_init=placed(each_head(self.kernel_init), self.sharding, "heads", None, None),
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
            attention=partial(squashed_attention, scale=scale),
        )
        return output_projection(width, self.heads, **dense, name="out")(heads)
