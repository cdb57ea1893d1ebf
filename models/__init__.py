"""Programs that run: compiled to JAX functions, stacked into language models, wrapped as Flax modules.

What stands here is loaded when it is first used: importing this package imports neither JAX nor Flax.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block import BlockFunctions, compile_block
    from .checkpoint_loading import linen_params, load_weights_into
    from .config import ModelConfig
    from .dna_block import DNABlock
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
    "CausalDepthwiseConv": "modules",
    "DNABlock": "dna_block",
    "FeedForward": "modules",
    "LanguageModel": "language_model",
    "ModelConfig": "config",
    "MultiDConvHeadAttention": "modules",
    "MultiHeadAttention": "modules",
    "PrimerAttention": "modules",
    "PrimerBlock": "modules",
    "PrimerEZBlock": "modules",
    "Sharding": "modules",
    "SquaredReLU": "modules",
    "SwiGLU": "modules",
    "TransformerBlock": "modules",
    "TransformerPPBlock": "modules",
    "compile_block": "block",
    "linen_params": "module_weights",
    "load_weights_into": "module_weights",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
