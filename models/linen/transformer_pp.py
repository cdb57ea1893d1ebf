"""Transformer++: what a good hand-made decoder block was when Primer appeared, and most are today."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.attention import Mask, Positions
from ..functional.checks import check_positive, check_rate
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .attention import MultiHeadAttention
from .feed_forward import SwiGLU
from .norms import rms_norm
from .widths import check_width

__all__ = ["TransformerPPBlock"]

Hidden = Float[Array, "batch length width"]


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
        check_rate(self.dropout_rate)
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
