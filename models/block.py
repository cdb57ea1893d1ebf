"""A canonical program as a pure pair of functions, `init` and `apply`.

Interpretation happens while JAX traces, so a compiled program costs nothing at run time. A softmax is computed from
shifted scores, so that it cannot overflow (`primitives.softmaxes`). Parameters are a flat
dict from readable names to arrays; they are drawn by canonical order, so names never change a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..primitives.errors import UsageError
from ..primitives.graph import Graph
from ..primitives.interpreter import evaluate
from ..primitives.ops import Init
from ..primitives.parameters import ParameterSpec, draw_value, parameter_specs
from ..primitives.program import MODEL_WIDTH
from ..primitives.softmaxes import softmax_exponentials

__all__ = ["BlockFunctions", "Parameters", "compile_block", "initial_value"]

Parameters = Mapping[str, Any]
"""Arrays by readable name."""


@dataclass(frozen=True, slots=True)
class BlockFunctions:
    """A program at one size.

    Attributes:
        graph: the canonical program.
        specs: its learned arrays, in canonical order.
        width: channels of its input and output.
    """

    graph: Graph
    specs: tuple[ParameterSpec, ...]
    width: int

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Initial parameters, float32, drawn on the host: compiling a draw for every shape would cost seconds."""
        return {spec.name: initial_value(spec, rng.standard_normal, np).astype(np.float32) for spec in self.specs}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Random parameters, none at 0 or 1, for probes (see `draw_value`)."""
        return {spec.name: draw_value(spec, rng).astype(np.float32) for spec in self.specs}

    def apply(
        self, parameters: Parameters, x: Float[Array, "batch length width"]
    ) -> Float[Array, "batch length width"]:
        """The block's output; parameters are cast to the dtype of `x`."""
        by_node: list[dict[str, Array]] = [{} for _ in self.graph.nodes]
        for spec in self.specs:
            by_node[spec.node][spec.key] = parameters[spec.name].astype(x.dtype)
        return evaluate(self.graph, by_node, x, jnp, self.shifts)

    @property
    def shifts(self) -> dict[int, Callable[[Array], Array]]:
        """What keeps each softmax from overflowing: its scores, less the largest that a row sees."""
        masked = softmax_exponentials(self.graph)
        return {node: below_visible_maximum if hidden else below_maximum for node, hidden in masked.items()}


def compile_block(graph: Graph, unit: int, length: int | None = None) -> BlockFunctions:
    """The program at `unit` channels a unit (the model is 8 units wide).

    Args:
        graph: a canonical program.
        unit: channels in a unit of relative width.
        length: sequence length; needed only where the program is tied to one.

    Raises:
        InvalidProgramError: a width is no whole number of channels at this unit.
        UsageError: the program is tied to one sequence length, and none was given.
    """
    if graph.length_dependent and length is None:
        raise UsageError("this program is tied to one sequence length; say which with `length`")
    return BlockFunctions(graph, parameter_specs(graph, unit, length), MODEL_WIDTH * unit)


def below_maximum(scores: Float[Array, "*axes keys"]) -> Float[Array, "*axes keys"]:
    """Scores less the largest of their row, at most 0: a softmax of them is the same, and cannot overflow."""
    return scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))


def below_visible_maximum(scores: Float[Array, "*axes length length"]) -> Float[Array, "*axes length length"]:
    """The same where a row sees no later keys; those stay at most 0, too, for a MASK to remove."""
    length = scores.shape[-1]
    visible = jnp.tril(jnp.ones((length, length), bool))
    seen = jnp.where(visible, scores, -jnp.inf)
    return jnp.where(visible, scores - jax.lax.stop_gradient(jnp.max(seen, axis=-1, keepdims=True)), 0)


def initial_value(spec: ParameterSpec, normal: Callable[[tuple[int, ...]], Any], xp: Any) -> Any:
    """One parameter's starting value (see `Init`), over the array namespace `xp`.

    Args:
        spec: the parameter.
        normal: draws standard normals of a shape; called only where the start is random.
        xp: `numpy` or `jax.numpy`.
    """
    if spec.init is Init.ONES:
        return xp.ones(spec.shape)
    if spec.init is Init.ZEROS:
        return xp.zeros(spec.shape)
    if spec.init is Init.FAN_IN:
        return normal(spec.shape) / math.sqrt(spec.fan_in)
    kernel = spec.shape[-2]
    taps = xp.where(xp.arange(kernel)[:, None] == kernel - 1, 0.5, 0.5 / kernel)
    return xp.broadcast_to(taps, spec.shape)
