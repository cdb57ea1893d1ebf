"""Pure functions of a canonical program: `init` and `apply`, and for decoding `init_cache` and `decode`.

The program is interpreted while JAX traces, which costs nothing at run time. Norms and softmaxes are computed in one
call (`functional.fused_idioms`). Softmaxes subtract the largest score first, so that they cannot overflow
(`primitives.graphs.softmax_patterns`). Parameters are a flat dict from readable names to arrays. They are drawn in
canonical order, so that names do not change any result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..primitives.causality.packed_texts import (
    check_maskable,
    check_packable,
    compute_texts_apart,
    number_texts,
    takes_texts,
)
from ..primitives.causality.prefix_mask import check_prefix_capable
from ..primitives.errors import UsageError
from ..primitives.graphs.graph import Graph
from ..primitives.graphs.interpreter import FusedGroup, evaluate
from ..primitives.graphs.parameters import ParameterSpec, draw_parameter, parameter_specs
from ..primitives.graphs.softmax_patterns import softmax_exponentials
from ..primitives.ops.least_squares import SOLVE_STEPS
from ..primitives.ops.value_types import MODEL_WIDTH
from . import decoding
from .functional.checks import check_mask, check_prefix, check_segment_ids
from .functional.dense import apply_dense
from .functional.depthwise import FAST_OPS as DEPTHWISE_OPS
from .functional.fused_idioms import causal_softmax, fused_groups
from .functional.initial_values import initial_value
from .functional.least_squares import apply_least_squares
from .visibility import ALL_EARLIER, Prefix, Visibility

__all__ = ["BlockFunctions", "Parameters", "compile_block"]

Parameters = Mapping[str, Any]
"""Arrays by readable name."""

SegmentIds = Int[Array, "batch length"]

BlockMask = Bool[Array, "#batch 1 #queries #keys"]
"""True where a query may read a key, in addition to the causal mask; keys begin at the first position."""


@dataclass(frozen=True, slots=True)
class BlockFunctions:
    """Functions of a program at one size.

    Attributes:
        graph: canonical program.
        specs: learned arrays, in canonical order.
        width: channels of input and output.
        length: the only sequence length of a program that is tied to one length; None: any length.
        fused: groups of nodes that `apply` computes in one call, by the index of the node that is their result.
        fast_ops: functions that replace the `apply` of some ops, by the name of the op.
    """

    graph: Graph
    specs: tuple[ParameterSpec, ...]
    width: int
    length: int | None = None
    fused: Mapping[int, FusedGroup] = field(default_factory=dict)
    fast_ops: Mapping[str, Callable[..., Array]] = field(default_factory=dict)

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return initial parameters, float32. NumPy draws them, as JAX would compile for seconds, once per shape."""
        return {spec.name: initial_value(spec, rng.standard_normal, np).astype(np.float32) for spec in self.specs}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return random parameters for probes, none of them 0 or 1 (see `draw_parameter`)."""
        return {spec.name: draw_parameter(spec, rng).astype(np.float32) for spec in self.specs}

    def apply(
        self,
        parameters: Parameters,
        x: Float[Array, "batch length width"],
        record: Callable[[Array], None] | None = None,
        segment_ids: SegmentIds | None = None,
        prefix: Prefix | None = None,
        mask: BlockMask | None = None,
    ) -> Float[Array, "batch length width"]:
        """Return the block's output; parameters are cast to the dtype of `x`.

        Args:
            parameters: arrays by name.
            x: inputs.
            record: function that gets the value of every node. Primitives then compute all nodes, without fusion.
            segment_ids: equal for neighbouring positions of one text. Each text gets the same outputs as alone in a
                sequence (see `primitives.causality.packed_texts`). Padding is a separate text. None: one text per
                sequence.
            prefix: true for the first positions of a text, which see each other in both directions (see
                `primitives.causality.prefix_mask`). None: no prefix.
            mask: true where a position may read another; an alternative to `segment_ids`. A position that may read
                nothing reads itself. None: no mask.

        Raises:
            UsageError: the program cannot keep texts apart or follow a mask, or depends on the sequence length.
            ValueError: the ids, the prefix or the mask do not fit.
        """
        learned = self._by_node(parameters, x.dtype)
        if segment_ids is not None or prefix is not None or mask is not None:
            return self._apply_apart(learned, x, record, self._visibility(x, segment_ids, prefix, mask, x.shape[1]))
        fused, fast_ops = (self.fused, self.fast_ops) if record is None else ({}, {})
        return evaluate(self.graph, learned, x, jnp, self.shifts, record, fused=fused, fast_ops=fast_ops)

    def _apply_apart(
        self,
        learned: list[Any],
        x: Array,
        record: Callable[[Array], None] | None,
        visibility: Visibility,
    ) -> Array:
        """Return the output if positions may read only what `visibility` allows."""
        shifts = {index: partial(shift, visibility=visibility) for index, shift in self.shifts.items()}
        seen = partial(causal_softmax, visibility=visibility)
        fused = {
            index: replace(group, function=seen) if group.function is causal_softmax else group
            for index, group in self.fused.items()
        }
        one_text = visibility.texts is None and visibility.mask is None
        fast_ops = {op: apply for op, apply in self.fast_ops.items() if one_text or not takes_texts(op)}
        fast_ops |= self._fast_past_ops
        if record is not None:
            fused, fast_ops = {}, {}
        hook = compute_texts_apart(self.graph, visibility.texts, visibility.prefix, visibility.mask)
        return evaluate(self.graph, learned, x, jnp, shifts, record, compute_hook=hook, fused=fused, fast_ops=fast_ops)

    def init_cache(self, batch: int, length: int, dtype: Any = jnp.float32) -> decoding.Cache:
        """Return an empty cache for `decode`, with room for `length` positions of `batch` sequences.

        Raises:
            InvalidProgramError: the program is not proved to be causal; decoding is then undefined.
            UsageError: the batch or the length is below 1, or the program is tied to another length.
        """
        if self.length is not None and length != self.length:
            raise UsageError(
                f"length is {length}, but the program is tied to length={self.length}; make the cache that long"
            )
        return decoding.init_cache(self.graph, self.width // MODEL_WIDTH, batch, length, dtype)

    def decode(
        self,
        parameters: Parameters,
        cache: decoding.Cache,
        x: Float[Array, "batch new width"],
        segment_ids: SegmentIds | None = None,
        prefix: Prefix | None = None,
        mask: BlockMask | None = None,
    ) -> tuple[Float[Array, "batch new width"], decoding.Cache]:
        """Return the outputs at the next positions, one or more, and the updated cache.

        The outputs equal those of `apply` on the whole sequence. Past the end of the cache they are NaN.

        `segment_ids` and `prefix` begin at the first position of the sequence, in every call. Positions after the end
        of `segment_ids` belong to the last text. Positions after the end of `prefix` are not part of a prefix, and all
        positions of a prefix must be new in the same call. The rows of `mask` are the new positions; keys after its end
        are treated as its last key.

        Raises:
            UsageError: there are more new positions than the whole cache has room for, the batch size differs, or the
                program cannot keep texts apart or follow a mask, or depends on the sequence length.
            ValueError: the ids, the prefix or the mask do not fit.
        """
        visibility = self._visibility(x, segment_ids, prefix, mask, None)
        learned, fast_ops = self._by_node(parameters, x.dtype), self._fast_past_ops
        return decoding.decode(self.graph, learned, cache, x, self.shifts, visibility, fast_ops)

    @property
    def _fast_past_ops(self) -> Mapping[str, Callable[..., Array]]:
        """Functions of `fast_ops` that also work for packed texts and in decoding."""
        return {name: function for name, function in self.fast_ops.items() if name == "LEAST_SQUARES"}

    def _visibility(
        self,
        x: Array,
        segment_ids: SegmentIds | None,
        prefix: Prefix | None,
        mask: BlockMask | None,
        length: int | None,
    ) -> Visibility:
        """Return what positions may read, after checking that the program supports it and that the shapes fit.

        `length` is the number of positions that the arguments must cover; None: any number.
        """
        texts, shape = None, (x.shape[0], length)
        if segment_ids is not None:
            check_packable(self.graph)
            texts = number_texts(jnp, check_segment_ids(segment_ids, *shape))
        if prefix is not None:
            check_prefix_capable(self.graph)
            prefix = check_prefix(prefix, *shape)
        if mask is not None:
            check_maskable(self.graph)
            mask = check_mask(mask, x.shape[0], x.shape[1], length)
            if segment_ids is not None:
                raise ValueError("give segment_ids or a mask, not both")
        return Visibility(texts, prefix, mask)

    def _by_node(self, parameters: Parameters, dtype: Any) -> list[dict[str, Array]]:
        by_node: list[dict[str, Array]] = [{} for _ in self.graph.nodes]
        for spec in self.specs:
            by_node[spec.node][spec.key] = parameters[spec.name].astype(dtype)
        return by_node

    @property
    def shifts(self) -> dict[int, decoding.Shift]:
        """Functions that subtract the largest visible score of each row, by the EXP node of the softmax."""
        masked = softmax_exponentials(self.graph)
        return {node: subtract_visible_maximum if hidden else subtract_maximum for node, hidden in masked.items()}


FAST_OPS: Mapping[str, Callable[..., Array]] = {
    "CONV_1X1": apply_dense,
    "LEAST_SQUARES": partial(apply_least_squares, steps=SOLVE_STEPS),
    **DEPTHWISE_OPS,
}
"""Functions that replace the `apply` of some ops in compiled blocks, by the name of the op."""


def compile_block(
    graph: Graph, unit: int, length: int | None = None, fused: bool = True, solve_steps: int = SOLVE_STEPS
) -> BlockFunctions:
    """Return the functions of a program at a size.

    Args:
        graph: canonical program.
        unit: channels in a unit of relative width; the model is 8 units wide.
        length: sequence length; needed only if the program is tied to one length.
        fused: whether to compute norms and softmaxes in one call (see `functional.fused_idioms`), LEAST_SQUARES by
            conjugate gradients, and the gradients of projections and depthwise convolutions in fewer passes
            (`FAST_OPS`), which works in reverse mode only.
        solve_steps: largest number of conjugate-gradient steps. Without `fused`, each position's system is solved
            exactly.

    Raises:
        InvalidProgramError: a width is not a whole number of channels at this unit.
        UsageError: the program is tied to one sequence length, and none is given.
    """
    if graph.length_dependent and length is None:
        raise UsageError("length is missing, but the program is tied to one sequence length; give it")
    tied_to = length if graph.length_dependent else None
    specs, width = parameter_specs(graph, unit, length), MODEL_WIDTH * unit
    if not fused:
        return BlockFunctions(graph, specs, width, tied_to)
    fast_ops = {**FAST_OPS, "LEAST_SQUARES": partial(apply_least_squares, steps=solve_steps)}
    return BlockFunctions(graph, specs, width, tied_to, fused_groups(graph), fast_ops)


def subtract_maximum(
    scores: Float[Array, "*axes keys"],
    first: int | Array = 0,
    visibility: Visibility = ALL_EARLIER,
) -> Float[Array, "*axes keys"]:
    """Return the scores minus the largest score of their row. Their softmax is the same and cannot overflow.

    `first`, the position of the first row, and `visibility` have no effect here.
    """
    return scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))


def subtract_visible_maximum(
    scores: Float[Array, "*axes rows keys"],
    first: int | Array = 0,
    visibility: Visibility = ALL_EARLIER,
) -> Float[Array, "*axes rows keys"]:
    """Return the scores minus the largest score that their row sees.

    Scores of hidden keys become 0; the MASK after the EXP removes them. The rows start at position `first`, the keys
    at 0.
    """
    visible = visibility.keys(scores, first)
    seen = jnp.where(visible, scores, -jnp.inf)
    return jnp.where(visible, scores - jax.lax.stop_gradient(jnp.max(seen, axis=-1, keepdims=True)), 0)
