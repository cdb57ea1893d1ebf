"""Blocks of decoders and their parts, written by hand in Flax NNX.

Each equals a program of the library given the same parameters: `TransformerBlock` is TRANSFORMER, `TransformerPPBlock`
TRANSFORMER_PP, `PrimerEZBlock` PRIMER_EZ and `PrimerBlock` PRIMER. `primer_search.models.linen` has the same in Linen.
"""

from ..functional.sharding import Sharding
from .activations import SquaredReLU
from .attention import MultiDConvHeadAttention, MultiHeadAttention
from .causal_depthwise_conv import CausalDepthwiseConv
from .feed_forward import FeedForward, SwiGLU
from .primer import PrimerBlock
from .primer_attention import PrimerAttention
from .primer_ez import PrimerEZBlock
from .transformer import TransformerBlock
from .transformer_pp import TransformerPPBlock

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
