"""Size and cost of a language model whose blocks are a program."""

from __future__ import annotations

from ..primitives import DNA, build_graph
from ..primitives.cost import block_cost, model_parameters
from ..primitives.value_types import MODEL_WIDTH
from .config import ModelConfig

__all__ = ["model_cost"]


def model_cost(dna: DNA, model: ModelConfig, unit: int) -> dict[str, float]:
    """Return the parameters (`params`) and forward operations per token (`flops`) of the whole model.

    Raises:
        InvalidProgramError: a width is not a whole number of channels at this unit.
    """
    block = block_cost(build_graph(dna, length_dependent=model.length_dependent), unit, model.length)
    parameters = model_parameters(block.parameters, unit, model.layers, model.vocabulary)
    logits = 2.0 * model.vocabulary * MODEL_WIDTH * unit
    return {"params": float(parameters), "flops": model.layers * block.flops_per_token + logits}
