"""Step-by-step decoding of any canonical program, with a cache of what new positions need from earlier ones.

The interpreter evaluates the graph at the new positions only. At each op, a hook adds the cached values that the op
needs (`Op.decode_state` in the op table): its last inputs for a convolution, its last output for a running sum, its
matrix for LEAST_SQUARES, and the second operand at every position for products of matrices. Scores have the new
positions as rows and all positions of the cache as keys. Later keys are zeros, which a causal program does not read.

A cache is a plain pytree of arrays in the interpreter's layout `[branches..., batch, positions, width]`:

    {"position": int32 scalar, "history": {name: all positions}, "state": {name: last few positions, or a matrix}}

All sequences of a batch have the same position. A program without history (only convolutions, running sums and least
squares) can decode any number of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..primitives.causality.causality_proof import prove_causal
from ..primitives.errors import UsageError
from ..primitives.graphs.decode_state import decode_plan, state_source
from ..primitives.graphs.graph import Graph
from ..primitives.graphs.interpreter import Compute, evaluate
from ..primitives.ops.op_table import OPS, DecodeState, TimeDependence
from ..primitives.ops.value_types import channels
from .functional.least_squares import sum_of_products
from .visibility import ALL_EARLIER, Visibility

__all__ = ["Cache", "Shift", "decode", "init_cache", "nan_past_end"]

Cache = dict[str, Any]
"""Pytree of arrays: `position`, `history` and `state`."""

Shift = Callable[..., Array]
"""Function of scores, the position of their first row, and what rows may read (see `BlockFunctions.shifts`)."""

POSITIONS = -2
"""Axis of positions in every layout."""


def init_cache(graph: Graph, unit: int, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
    """Return an empty cache with room for `length` positions of `batch` sequences; see `BlockFunctions.init_cache`."""
    if batch < 1 or length < 1:
        raise UsageError(f"the cache has batch={batch} and length={length}, but both must be at least 1")
    prove_causal(graph)
    plan = decode_plan(graph)

    def width(source: int) -> int:
        return channels(graph.nodes[source].value, unit, length)

    def rows(source: int, positions: int, value: float = 0.0, dtype: Any = dtype) -> Array:
        branches = [graph.scopes[scope] for scope in graph.nodes[source].scope]
        return jnp.full((*branches, batch, positions, width(source)), value, dtype)

    def state(index: int) -> Array:
        if index in plan.matrices:
            return rows(index, width(index), dtype=jnp.promote_types(dtype, jnp.float32))
        return rows(state_source(graph, index), plan.state[index], OPS[graph.nodes[index].op].before_start)

    return {
        "position": jnp.zeros((), jnp.int32),
        "history": {name: rows(index, length) for index, name in _names(graph, plan.history).items()},
        "state": {name: state(index) for index, name in _names(graph, {*plan.state, *plan.matrices}).items()},
    }


def decode(
    graph: Graph,
    parameters: Sequence[dict[str, Array]],
    cache: Cache,
    x: Float[Array, "batch new width"],
    shifts: Mapping[int, Shift],
    visibility: Visibility = ALL_EARLIER,
    fast_ops: Mapping[str, Callable[..., Array]] = MappingProxyType({}),
) -> tuple[Float[Array, "batch new width"], Cache]:
    """Return the outputs at the next positions, and the updated cache; see `BlockFunctions.decode`.

    Past the end of the cache the outputs are NaN, since the position is traced and cannot raise an error.

    Args:
        graph: canonical program.
        parameters: learned arrays of each node.
        cache: cache made by `init_cache` or returned by an earlier call.
        x: inputs at the next positions, one or more.
        shifts: functions applied to the scores of softmaxes, by node.
        visibility: positions that the new ones may read. All positions of a prefix must be new in the same call.
        fast_ops: functions that replace the `apply` of some ops, by name.
    """
    _check(cache, x)
    step = _Step(graph, cache, x.shape[POSITIONS], shifts, visibility)
    y = evaluate(graph, parameters, x, jnp, step.operand_hooks, compute_hook=step.compute_hook, fast_ops=fast_ops)
    length = _length(cache)
    if length is not None:
        y = nan_past_end(y, step.position, length)
    return y, {"position": step.position + x.shape[POSITIONS], "history": step.history, "state": step.state}


def nan_past_end(y: Float[Array, "batch new width"], position: Array, length: int) -> Float[Array, "batch new width"]:
    """Return `y` if all its positions, from `position` on, are within a cache of `length`, else NaN."""
    return jnp.where(position + y.shape[POSITIONS] <= length, y, jnp.nan)


class _Step:
    """Evaluation of the graph at the new positions; its hooks fill `history` and `state`.

    Values of nodes have the rows of the new positions only, except `DecodePlan.recomputed_scores`, which have all rows.
    """

    def __init__(
        self,
        graph: Graph,
        cache: Cache,
        new: int,
        shifts: Mapping[int, Shift],
        visibility: Visibility,
    ):
        self.graph = graph
        self.new = new
        self.position = cache["position"]
        self.visibility = visibility
        self.plan = decode_plan(graph)
        kept = {*self.plan.state, *self.plan.matrices}
        self.names = {"history": _names(graph, self.plan.history), "state": _names(graph, kept)}
        self.cache = cache
        self.history: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        first_rows = {index: 0 if index in self.plan.recomputed_scores else self.position for index in shifts}
        self.operand_hooks = {
            index: partial(shift, first=first_rows[index], visibility=visibility) for index, shift in shifts.items()
        }

    def compute_hook(self, index: int, operands: Sequence[Array], compute: Compute) -> Array:
        """Return a node's value, computed by `compute` from its operands at all positions that the op needs."""
        node = self.graph.nodes[index]
        op = OPS[node.op]
        if index in self.plan.recomputed_scores:
            whole = [self._all_rows(i, value) for i, value in zip(node.inputs, operands, strict=True)]
            return compute(whole, **self.visibility.arguments(node.op, 0, whole[0].shape[POSITIONS]))
        rows = [self._new_rows(i, value) for i, value in zip(node.inputs, operands, strict=True)]
        if op.time_dependence is TimeDependence.MASKS:
            return jnp.where(self.visibility.keys(rows[0], self.position), rows[0], 0)
        if op.decode_state is DecodeState.SECOND:
            return compute([rows[0], self._all_rows(node.inputs[1], operands[1])])
        if index in self.plan.matrices:
            return self._continue_matrix(index, rows, compute)
        if index in self.plan.state:
            return self._continue_state(index, op.decode_state, rows[0], compute)
        return compute(rows)

    def _new_rows(self, index: int, value: Array) -> Array:
        """Return the rows of the new positions."""
        if index not in self.plan.recomputed_scores:
            return value
        return lax.dynamic_slice_in_dim(value, self.position, self.new, axis=POSITIONS)

    def _all_rows(self, index: int, value: Array) -> Array:
        """Return the rows of all positions, after adding the new ones to the history."""
        if index in self.plan.recomputed_scores:
            return value
        name = self.names["history"][index]
        if name not in self.history:
            earlier = self.cache["history"][name]
            self.history[name] = lax.dynamic_update_slice_in_dim(
                earlier, value.astype(earlier.dtype), self.position, axis=POSITIONS
            )
        return self.history[name].astype(value.dtype)

    def _continue_state(self, index: int, kind: DecodeState, value: Array, compute: Compute) -> Array:
        """Return the new outputs of an op along the length, with its last inputs, or its last output, as first inputs.

        Running ops compute in the cache's dtype if it is wider, since rounding errors of all steps would accumulate.
        """
        name, cached = self.names["state"][index], self.plan.state[index]
        earlier = self.cache["state"][name]
        dtype = value.dtype if kind is DecodeState.INPUTS else jnp.promote_types(earlier.dtype, value.dtype)
        inputs = jnp.concatenate([earlier.astype(dtype), value.astype(dtype)], axis=POSITIONS)
        given = self.visibility.arguments(self.graph.nodes[index].op, self.position - cached, inputs.shape[POSITIONS])
        outputs = compute([inputs], **given)
        last = (inputs if kind is DecodeState.INPUTS else outputs)[..., -cached:, :]
        self.state[name] = last.astype(earlier.dtype)
        return outputs[..., cached:, :].astype(value.dtype)

    def _continue_matrix(self, index: int, operands: Sequence[Array], compute: Compute) -> Array:
        """Return the new outputs of a LEAST_SQUARES, and add the new positions to its cached sum over earlier ones."""
        name = self.names["state"][index]
        before, keys = self.cache["state"][name], operands[1]
        texts = self.visibility.arguments(self.graph.nodes[index].op, self.position - 1, self.new + 1)
        numbers = jnp.expand_dims(texts["texts"], tuple(range(before.ndim - 3))) if texts else None
        keys = jnp.broadcast_to(keys, (*before.shape[:-2], *keys.shape[-2:]))
        self.state[name] = sum_of_products(keys, numbers, before)
        return compute(operands, before=before, **texts)


def _check(cache: Cache, x: Array) -> None:
    """Check that the inputs have the cache's batch size and not more positions than the whole cache."""
    for array in (*cache["history"].values(), *cache["state"].values()):
        if array.shape[-3] != x.shape[0]:
            raise UsageError(f"x has {x.shape[0]} sequences, but the cache has {array.shape[-3]}; make another cache")
    length = _length(cache)
    if length is not None and x.shape[POSITIONS] > length:
        raise UsageError(
            f"x has {x.shape[POSITIONS]} positions, but the cache has room for {length}; make a longer cache"
        )


def _length(cache: Cache) -> int | None:
    """Return the number of positions that the cache has room for; None without history."""
    return next((array.shape[POSITIONS] for array in cache["history"].values()), None)


def _names(graph: Graph, indices: Iterable[int]) -> dict[int, str]:
    """Return readable names of nodes, by index: the path of the call that a node is in, numbered if it repeats."""
    names: dict[str, int] = {}
    for index in sorted(indices):
        node = graph.nodes[index]
        path = ".".join(node.labels) or node.op.lower()
        numbered = (path if number == 1 else f"{path}_{number}" for number in count(1))
        names[next(name for name in numbered if name not in names)] = index
    return {index: name for name, index in names.items()}
