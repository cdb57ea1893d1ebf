"""How much device memory one training needs: an estimate from the program, before anything is compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...models.config import ModelConfig
from ...primitives.cost import block_cost, model_parameters
from ...primitives.graph import Graph
from ...primitives.value_types import channels
from ..config import OptimizerConfig, TrialConfig

__all__ = ["SMALLEST_MEMORY_FRACTION", "MemoryEstimate", "estimate_memory"]

SMALLEST_MEMORY_FRACTION = 0.66
"""The least that trainings were seen to need of their estimate (see `estimate_memory`)."""

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that one training holds on each of its devices.

    Attributes:
        parameters: parameters, and their average if one is kept.
        optimizer: optimizer state, gradients and updates.
        activations: activations of the blocks, and the logits.
    """

    parameters: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.optimizer + self.activations


def estimate_memory(graph: Graph, model: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig) -> MemoryEstimate:
    """What a candidate as large as the seed may get needs, more rather than less.

    With P = `model_parameters` of the program times `model.parameter_cap`, 4 bytes each:

        parameters  = 4 P (8 P where an average is kept)
        optimizer   = 8 P of state for AdamW, none to speak of for Adafactor (its statistics are rows and columns),
                      and 8 P while a step lasts: gradients and updates
        activations = layers * tokens * (channels of every value of the block, in all branches) * bytes of the precision
                      + tokens * vocabulary * 8: the logits and their gradient, in float32

    where tokens = batch * length / devices, and Scores have `length` channels. Every value is counted as kept for the
    backward pass, which XLA's fusion spares in part. A mutated program may need more than the seed, at as many
    parameters: such a trial ends as `out_of_memory`.

    What XLA on a CPU reports of TRANSFORMER, PRIMER_EZ and PRIMER (widths 64 to 256, 2 and 6 layers, lengths 64 to 256)
    is 0.66 to 0.90 of this in float32, and in bfloat16, with JAX 0.12, 0.69 to 0.93. The CPU of JAX 0.10 computes
    bfloat16 in float32 and keeps it so from layer to layer where they are scanned: there it is up to 1.70. No
    accelerator was measured.

    Args:
        graph: of the program, usually the seed's.
        model, trial, optimizer: the configuration.
    """
    block = block_cost(graph, model.unit, model.length).parameters
    count = model_parameters(block, model.unit, model.layers, model.vocabulary) * model.parameter_cap
    each = round(_FLOAT32 * count)
    tokens = trial.batch * model.length // trial.devices
    kept = sum(
        channels(node.value, model.unit, model.length) * math.prod(graph.scopes[scope] for scope in node.scope)
        for node in graph.nodes
    )
    precision = 2 if model.precision == "bfloat16" else _FLOAT32
    return MemoryEstimate(
        parameters=each * (2 if optimizer.averaging else 1),
        optimizer=each * (4 if optimizer.name == "adamw" else 2),
        activations=tokens * (model.layers * kept * precision + model.vocabulary * 2 * _FLOAT32),
    )
