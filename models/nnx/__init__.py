"""Blocks of decoders and their parts, written by hand in Flax NNX.

Each equals a program of the library given the same parameters: `TransformerBlock` is TRANSFORMER, `TransformerPPBlock`
TRANSFORMER_PP, `PrimerEZBlock` PRIMER_EZ and `PrimerBlock` PRIMER. `primer_search.models.linen` has the same in Linen.
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
