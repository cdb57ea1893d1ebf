"""A canonical program as pure functions: `init` and `apply`, and for decoding `init_cache` and `decode`.

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
from ..primitives.parameters import ParameterSpec, draw_parameter, parameter_specs
from ..primitives.softmax_patterns import softmax_exponentials
from ..primitives.value_types import MODEL_WIDTH
from . import decoding

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
        length: the only sequence length it takes, None where it takes any.
    """

    graph: Graph
    specs: tuple[ParameterSpec, ...]
    width: int
    length: int | None = None

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Initial parameters, float32, drawn on the host: compiling a draw for every shape would cost seconds."""
        return {spec.name: initial_value(spec, rng.standard_normal, np).astype(np.float32) for spec in self.specs}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Random parameters, none at 0 or 1, for probes (see `draw_parameter`)."""
        return {spec.name: draw_parameter(spec, rng).astype(np.float32) for spec in self.specs}

    def apply(
        self, parameters: Parameters, x: Float[Array, "batch length width"]
    ) -> Float[Array, "batch length width"]:
        """The block's output; parameters are cast to the dtype of `x`."""
        return evaluate(self.graph, self._by_node(parameters, x.dtype), x, jnp, self.shifts)

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32) -> decoding.Cache:
        """A cache for `decode` with room for `length` positions of `batch` sequences, kept in `dtype`.

        Raises:
            InvalidProgramError: the program is not proved causal.
            UsageError: the cache would hold nothing, or the program is tied to another length.
        """
        if self.length is not None and length != self.length:
            raise UsageError(f"the program is tied to {self.length} positions; make its cache that long, not {length}")
        return decoding.init_cache(self.graph, self.width // MODEL_WIDTH, batch, length, dtype)

    def decode(
        self, parameters: Parameters, cache: decoding.Cache, x: Float[Array, "batch new width"]
    ) -> tuple[Float[Array, "batch new width"], decoding.Cache]:
        """The outputs at the next positions, one or more, and the cache after them.

        They are those of `apply` on the whole sequence. Past the end of the cache they are NaN.

        Raises:
            UsageError: there are more new positions than the cache has room for, or other sequences.
        """
        return decoding.decode(self.graph, self._by_node(parameters, x.dtype), cache, x, self.shifts)

    def _by_node(self, parameters: Parameters, dtype: Any) -> list[dict[str, Array]]:
        by_node: list[dict[str, Array]] = [{} for _ in self.graph.nodes]
        for spec in self.specs:
            by_node[spec.node][spec.key] = parameters[spec.name].astype(dtype)
        return by_node

    @property
    def shifts(self) -> dict[int, decoding.Shift]:
        """What keeps each softmax from overflowing: its scores, less the largest that a row sees."""
        masked = softmax_exponentials(self.graph)
        return {node: subtract_visible_maximum if hidden else subtract_maximum for node, hidden in masked.items()}


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
    tied_to = length if graph.length_dependent else None
    return BlockFunctions(graph, parameter_specs(graph, unit, length), MODEL_WIDTH * unit, tied_to)


def subtract_maximum(scores: Float[Array, "*axes keys"], first: int | Array = 0) -> Float[Array, "*axes keys"]:
    """Scores less the largest of their row, at most 0: a softmax of them is the same, and cannot overflow.

    Where the rows start (`first`) does not matter here.
    """
    return scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))


def subtract_visible_maximum(
    scores: Float[Array, "*axes rows keys"], first: int | Array = 0
) -> Float[Array, "*axes rows keys"]:
    """The same where a row sees no later keys; those stay at most 0, too, for a MASK to remove.

    The rows start at position `first`, the keys at 0.
    """
    visible = decoding.visible_keys(scores.shape[-2], scores.shape[-1], first)
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
