"""Programs as JAX functions and Flax modules, language models, checkpoints, decoding and export.

Names are imported on first use, so that importing this package imports neither JAX nor Flax.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block import BlockFunctions, compile_block
    from .config import ModelConfig
    from .export.load_into_modules import linen_params, load_weights_into
    from .language_model import LanguageModel
    from .nnx import (
        CausalDepthwiseConv,
        FeedForward,
        MultiDConvHeadAttention,
        MultiHeadAttention,
        PrimerAttention,
        PrimerBlock,
        PrimerEZBlock,
        Sharding,
        SquaredReLU,
        SwiGLU,
        TransformerBlock,
        TransformerPPBlock,
    )
    from .nnx.dna_block import DNABlock

__all__ = [
    "BlockFunctions",
    "CausalDepthwiseConv",
    "DNABlock",
    "FeedForward",
    "LanguageModel",
    "ModelConfig",
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
    "compile_block",
    "linen_params",
    "load_weights_into",
]

_MODULES = {
    "BlockFunctions": "block",
    "DNABlock": "nnx.dna_block",
    "LanguageModel": "language_model",
    "ModelConfig": "config",
    "compile_block": "block",
    "linen_params": "export.load_into_modules",
    "load_weights_into": "export.load_into_modules",
}
"""Module that defines each name. Names that are not listed are hand-written blocks, in `nnx`."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f".{_MODULES.get(name, 'nnx')}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
