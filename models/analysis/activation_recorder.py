"""Recorder of the largest activations of every node in every layer of a model, and of gradient norms.

One compiled function runs a model forwards and backwards. For each layer and each node of the canonical graph it
records the largest magnitude and the largest value. Layers are scanned, so that compile time does not grow with depth.
The backward pass recomputes their activations, so that memory holds the activations of one layer and the inputs of all
layers. As in a trial, the largest score of a row is subtracted in a softmax; scores are recorded before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...primitives.graphs.graph import CONCAT, INPUT, Graph
from ...primitives.ops.op_table import Init
from ..block import BlockFunctions, Parameters
from ..language_model import LanguageModel, negative_log_likelihood

__all__ = [
    "RecordedPass",
    "Recorder",
    "find_breaking_scale",
    "make_recorder",
    "node_name",
    "scale_dense_kernels",
    "with_rematerialization",
]


@dataclass(frozen=True, slots=True)
class RecordedPass:
    """Record of one forward and backward pass.

    Attributes:
        loss: mean loss of the batch, in nats per token.
        gradient_norm: gradient norm of all parameters.
        gradient_norms: gradient norm of each layer's parameters, `[layers]`.
        magnitudes: largest magnitude of each node, `[layers, nodes]`; not finite if any element is not finite.
        highest: largest value of each node, `[layers, nodes]`.
    """

    loss: Any
    gradient_norm: Any
    gradient_norms: Any
    magnitudes: Any
    highest: Any

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are finite."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))

    @property
    def first_non_finite(self) -> tuple[int, int] | None:
        """Layer and node of the first value that is not finite, in the order of computation; None if all are finite."""
        broken = np.argwhere(~np.isfinite(self.magnitudes))
        return (int(broken[0, 0]), int(broken[0, 1])) if len(broken) else None


jax.tree_util.register_dataclass(RecordedPass)

Recorder = Callable[[Any, np.ndarray, float], RecordedPass]
"""Function of parameters, tokens `[batch, length + 1]` and a factor of the first layer's input."""


def with_rematerialization(model: LanguageModel) -> LanguageModel:
    """Return the same model with scanned layers, whose activations are recomputed in the backward pass."""
    return LanguageModel(replace(model.config, stack="scan"), model.block, rematerialize=True)


def make_recorder(model: LanguageModel) -> Recorder:
    """Return the compiled recorder of a model whose block is a compiled program (`BlockFunctions`)."""

    def loss(parameters: Any, tokens: Array, scale: Array) -> tuple[Array, tuple[Array, Array]]:
        losses, records = _recorded_losses(model, parameters, tokens, scale)
        return jnp.mean(losses), records

    @jax.jit
    def record(parameters: Any, tokens: Array, scale: Array) -> RecordedPass:
        (mean, records), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, tokens, scale)
        squares = [jnp.sum(jnp.square(leaf).reshape(leaf.shape[0], -1), 1) for leaf in gradients["blocks"].values()]
        layers = sum(squares, jnp.zeros(model.config.layers))
        rest = [jnp.sum(jnp.square(leaf)) for leaf in (gradients["embedding"], *gradients["final_norm"].values())]
        return RecordedPass(mean, jnp.sqrt(jnp.sum(layers) + sum(rest)), jnp.sqrt(layers), *records)

    return lambda parameters, tokens, scale: jax.tree.map(np.asarray, record(parameters, tokens, scale))


def node_name(graph: Graph, node: int) -> str:
    """Return the path of a node in the program: `self_attention.softmax.exp`."""
    found = graph.nodes[node]
    if found.op == INPUT:
        return "the block's input"
    path = ".".join(found.labels) or found.op.lower()
    return f"branches of {path}" if found.op == CONCAT else path


def scale_dense_kernels(model: LanguageModel, parameters: Any, factor: float) -> Any:
    """Return the parameters with the kernels of the blocks' dense layers multiplied by `factor`."""
    dense = {spec.name for spec in model.block.specs if spec.init is Init.FAN_IN}
    blocks = {name: array * factor if name in dense else array for name, array in parameters["blocks"].items()}
    return {**parameters, "blocks": blocks}


BISECTIONS = 6
"""Number of bisections of an interval whose ends differ by a factor of 100; the result is then within 8%."""


def find_breaking_scale(holds: Callable[[float], bool], largest: float) -> float | None:
    """Return approximately the smallest factor from 1 to `largest` for which `holds` is False.

    Return None if `holds` is True for all powers of 100 up to `largest`, and for `largest`. The factor is multiplied by
    100 until `holds` is False; bisection on a logarithmic scale follows. If `holds` is False only at some factors, and
    True again at larger ones, they are found only if a power of 100 is among them.

    >>> round(find_breaking_scale(lambda factor: factor < 50, 1e4))
    52
    """
    low, high = 1.0, min(100.0, largest)
    while holds(high):
        if high >= largest:
            return None
        low, high = high, min(100 * high, largest)
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _recorded_losses(
    model: LanguageModel, parameters: Any, tokens: Int[Array, "batch length+1"], scale: Array
) -> tuple[Float[Array, "batch length"], tuple[Array, Array]]:
    """Return the losses of `LanguageModel.token_losses`, and the records of all layers."""
    x = model.embed(parameters, tokens[:, :-1], scale=scale)
    layer = jax.checkpoint(lambda x, layer: _recorded(model.block, layer, x))
    x, records = jax.lax.scan(layer, x, parameters["blocks"], model.config.layers)
    return negative_log_likelihood(model.head(parameters, x), tokens[:, 1:]), records


def _recorded(block: BlockFunctions, parameters: Parameters, x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return the block's output, and the largest magnitude and the largest value of every node."""
    magnitudes: list[Array] = []
    highest: list[Array] = []

    def record(value: Array) -> None:
        value = jax.lax.stop_gradient(value).astype(jnp.float32)
        magnitudes.append(jnp.max(jnp.abs(value)))
        highest.append(jnp.max(value))

    output = block.apply(parameters, x, record)
    return output, (jnp.stack(magnitudes), jnp.stack(highest))
