"""What goes on inside a model under stress: the largest value of every node, layer by layer, and its gradients.

One compiled function runs a model forwards and backwards and records, for each layer and each node of the canonical
graph, its largest magnitude and its largest value. Layers are scanned and recomputed in the backward pass, so that
neither compile time nor memory grows with depth times length. What runs is what a trial runs: the same block functions,
with whatever they do to keep a softmax from overflowing; the scores are recorded before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..primitives.graph import CONCAT, INPUT, Graph
from ..primitives.interpreter import evaluate
from ..primitives.ops import Init
from .block import BlockFunctions, Parameters
from .language_model import BlockLike, LanguageModel, layer_norm, sinusoids

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
    """What one forward and backward pass showed.

    Attributes:
        loss: mean over the batch, in nats per token.
        gradient_norm: of all parameters.
        gradient_norms: of each layer's parameters, `[layers]`.
        magnitudes: largest magnitude of each node, `[layers, nodes]`; not finite where one element was not.
        highest: largest value of each node, `[layers, nodes]`.
    """

    loss: Any
    gradient_norm: Any
    gradient_norms: Any
    magnitudes: Any
    highest: Any

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are."""
        return bool(np.isfinite(self.loss) and np.isfinite(self.gradient_norm))

    @property
    def first_non_finite(self) -> tuple[int, int] | None:
        """Layer and node of the first value that is not finite, in the order of computation."""
        broken = np.argwhere(~np.isfinite(self.magnitudes))
        return (int(broken[0, 0]), int(broken[0, 1])) if len(broken) else None


jax.tree_util.register_dataclass(RecordedPass)

Recorder = Callable[[Any, np.ndarray, float], RecordedPass]
"""Of parameters, tokens `[batch, length + 1]` and a factor for the input of the first layer."""


@dataclass(frozen=True, slots=True)
class _Rematerialised:
    """A block whose values are computed again for its gradients, instead of being kept."""

    block: BlockLike

    def init(self, rng: np.random.Generator) -> Any:
        return self.block.init(rng)

    def draw(self, rng: np.random.Generator) -> Any:
        return self.block.draw(rng)

    def apply(self, parameters: Any, x: Array) -> Array:
        return jax.checkpoint(self.block.apply)(parameters, x)


def with_rematerialization(model: LanguageModel) -> LanguageModel:
    """The same model with scanned layers, trained within the memory of one layer."""
    return LanguageModel(replace(model.config, stack="scan"), _Rematerialised(model.block))


def make_recorder(model: LanguageModel) -> Recorder:
    """The compiled observation of a model whose block is a compiled program (`BlockFunctions`)."""

    def loss(parameters: Any, tokens: Array, scale: Array) -> tuple[Array, tuple[Array, Array]]:
        losses, records = _recorded_losses(model, parameters, tokens, scale)
        return jnp.mean(losses), records

    @jax.jit
    def observe(parameters: Any, tokens: Array, scale: Array) -> RecordedPass:
        (mean, records), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, tokens, scale)
        squares = [jnp.sum(jnp.square(leaf).reshape(leaf.shape[0], -1), 1) for leaf in gradients["blocks"].values()]
        layers = sum(squares, jnp.zeros(model.config.layers))
        rest = [jnp.sum(jnp.square(leaf)) for leaf in (gradients["embedding"], *gradients["final_norm"].values())]
        return RecordedPass(mean, jnp.sqrt(jnp.sum(layers) + sum(rest)), jnp.sqrt(layers), *records)

    return lambda parameters, tokens, scale: jax.tree.map(np.asarray, observe(parameters, tokens, scale))


def node_name(graph: Graph, node: int) -> str:
    """Where a node stands in the program: `self_attention.softmax.exp`."""
    found = graph.nodes[node]
    if found.op == INPUT:
        return "the block's input"
    path = ".".join(found.labels) or found.op.lower()
    return f"branches of {path}" if found.op == CONCAT else path


def scale_dense_kernels(model: LanguageModel, parameters: Any, factor: float) -> Any:
    """The parameters with the kernels of every dense layer in the blocks `factor` times as large."""
    dense = {spec.name for spec in model.block.specs if spec.init is Init.FAN_IN}
    blocks = {name: array * factor if name in dense else array for name, array in parameters["blocks"].items()}
    return {**parameters, "blocks": blocks}


def find_breaking_scale(holds: Callable[[float], bool], largest: float, halvings: int = 6) -> float | None:
    """About the smallest factor between 1 and `largest` at which something no longer holds, or None.

    Goes up by hundreds, then halves the interval on a logarithmic scale; what breaks and holds again further up is
    found only where a power of a hundred meets it.

    >>> round(breaking_scale(lambda factor: factor < 50, 1e4))
    52
    """
    low, high = 1.0, min(100.0, largest)
    while holds(high):
        if high >= largest:
            return None
        low, high = high, min(100 * high, largest)
    for _ in range(halvings):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _recorded_losses(
    model: LanguageModel, parameters: Any, tokens: Int[Array, "batch length+1"], scale: Array
) -> tuple[Float[Array, "batch length"], tuple[Array, Array]]:
    """`LanguageModel.token_losses`, and the records of its layers (a test compares the two)."""
    dtype = jnp.dtype(model.config.precision)
    embedding, inputs = parameters["embedding"], tokens[:, :-1]
    x = embedding[inputs] * float(np.sqrt(model.config.width)) + sinusoids(inputs.shape[1], model.config.width)
    layer = jax.checkpoint(lambda x, layer: _recorded(model.block, layer, x))
    x, records = jax.lax.scan(layer, (x * scale).astype(dtype), parameters["blocks"], model.config.layers)
    x = layer_norm(x, parameters["final_norm"])
    logits = jnp.matmul(x, embedding.T.astype(dtype), preferred_element_type=jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen, records


def _recorded(block: BlockFunctions, parameters: Parameters, x: Array) -> tuple[Array, tuple[Array, Array]]:
    """The block's output; the largest magnitude and the largest value of every node."""
    magnitudes: list[Array] = []
    highest: list[Array] = []

    def record(value: Array) -> None:
        value = jax.lax.stop_gradient(value).astype(jnp.float32)
        magnitudes.append(jnp.max(jnp.abs(value)))
        highest.append(jnp.max(value))

    by_node: list[dict[str, Array]] = [{} for _ in block.graph.nodes]
    for spec in block.specs:
        by_node[spec.node][spec.key] = parameters[spec.name].astype(x.dtype)
    output = evaluate(block.graph, by_node, x, jnp, block.shifts, record)
    return output, (jnp.stack(magnitudes), jnp.stack(highest))
