"""Hand-written decoder blocks and their parts in Flax NNX; `primer_search.models.linen` has the same in Linen.

With the same parameters, each block computes the same outputs as a program of the library: `TransformerBlock` as
TRANSFORMER, `TransformerPPBlock` as TRANSFORMER_PP, `PrimerEZBlock` as PRIMER_EZ, and `PrimerBlock` as PRIMER.
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
