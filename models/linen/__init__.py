"""The blocks of `primer_search.models.nnx` in Flax Linen, with the same names, parameters and arithmetic.

Constructors take no width, since Linen infers it from the input. To decode, call `init` with the longest input and
`decode=True`; each call of `apply` then updates the collection `cache`:

    >>> import jax, jax.numpy as jnp
    >>> block, x = PrimerEZBlock(heads=4), jnp.ones((2, 6, 32))
    >>> variables = block.init(jax.random.key(0), x, decode=True)
    >>> y, changed = block.apply(variables, x[:, :5], decode=True, mutable=["cache"])
    >>> y, changed = block.apply(variables | changed, x[:, 5:], decode=True, mutable=["cache"])
    >>> y.shape
    (2, 1, 32)

Call arguments can be given by position, so that `nn.remat` can treat `decode` and `deterministic` as static.
"""

from ..functional.sharding import Sharding
from .attention import MultiDConvHeadAttention, MultiHeadAttention, PrimerAttention
from .blocks import PrimerBlock, PrimerEZBlock, TransformerBlock, TransformerPPBlock
from .causal_depthwise_conv import CausalDepthwiseConv
from .feed_forward import FeedForward, SquaredReLU, SwiGLU

__all__ = [
    "CausalDepthwiseConv",
    "FeedForward",
    "MultiDConvHeadAttention",
    "MultiHeadAttention",
    "PrimerAttention",
    "PrimerBlock",
    "PrimerEZBlock",
    "Sharding",
    "SquaredReLU",
    "SwiGLU",
    "TransformerBlock",
    "TransformerPPBlock",
]
