"""Estimate of the device memory of one training, from the program alone, before compilation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...models.config import ModelConfig
from ...primitives.graphs.cost import block_cost, model_parameters
from ...primitives.graphs.graph import Graph
from ...primitives.ops.value_types import channels
from ..config import OptimizerConfig, TrialConfig

__all__ = ["SMALLEST_MEMORY_FRACTION", "MemoryEstimate", "estimate_memory"]

SMALLEST_MEMORY_FRACTION = 0.66
"""Smallest measured ratio of a training's memory to its estimate (see `estimate_memory`)."""

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that one training takes on each of its devices.

    Attributes:
        parameters: parameters, and their average if there is one.
        optimizer: optimizer state, gradients and updates.
        activations: activations of the blocks, and the logits.
    """

    parameters: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.parameters + self.optimizer + self.activations


def estimate_memory(graph: Graph, model: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig) -> MemoryEstimate:
    """Estimate the memory of a candidate with as many parameters as the search allows. It is usually too high.

    P is that number of parameters: `model_parameters` of the program times `model.parameter_cap`, or the upper end of
    `model.parameter_range`. A parameter has 4 bytes.

        parameters  = 4 P; 8 P with an average of the parameters
        optimizer   = 8 P for the state of AdamW (nearly 0 for Adafactor, whose statistics are rows and columns)
                      + 8 P for gradients and updates during a step
        activations = layers * tokens * (channels of every value of the block, in all branches) * bytes of the precision
                      + tokens * vocabulary * 8 for the logits and their gradient, in float32

    where tokens = batch * length / devices, and attention scores have `length` channels. The estimate assumes that
    every value is stored for the backward pass; XLA's fusion avoids storing some. A mutated program with the same
    number of parameters may need more memory than the baseline. If memory runs out, its trial ends as `out_of_memory`.

    XLA on a CPU reports 0.66 to 0.90 of the estimate in float32, and 0.69 to 0.93 in bfloat16 with JAX 0.12, for
    TRANSFORMER, PRIMER_EZ and PRIMER (widths 64 to 256, 2 and 6 layers, lengths 64 to 256). With JAX 0.10 it reports up
    to 1.70 in bfloat16, because that version stores float32 values between scanned layers. Accelerators were not
    measured.

    Args:
        graph: graph of the program, usually of the baseline.
        model, trial, optimizer: configuration.
    """
    block = block_cost(graph, model.unit, model.length).parameters
    count = model.most_parameters(model_parameters(block, model.unit, model.layers, model.vocabulary))
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
