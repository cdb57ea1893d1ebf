"""Step-by-step decoding of any canonical program: new positions from what a cache keeps of the earlier ones.

The interpreter walks the graph as ever, over the new positions alone; at each op, this brings in what the op's row of
the table says it keeps (`Op.decode_state`): a convolution its last inputs, a running sum its last output,
a product with scores its second operand of every position. Scores have the rows of the new positions, and all the
cache's positions as keys; the later ones are zeros until they come, and a causal program does not look at them.

A cache is a plain pytree, arrays in the interpreter's layout `[branches..., batch, positions, width]`:

    {"position": int32 scalar, "history": {name: all positions}, "state": {name: the last few}}

Sequences of a batch go in step. A program that keeps no history (convolutions and running sums alone) never comes to
the end of its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..primitives.causality_proof import prove_causal
from ..primitives.decode_state import decode_plan, state_source
from ..primitives.errors import UsageError
from ..primitives.graph import Graph
from ..primitives.interpreter import Compute, evaluate
from ..primitives.ops import OPS, DecodeState, TimeDependence
from ..primitives.value_types import channels

__all__ = ["Cache", "Shift", "decode", "init_cache", "nan_past_end", "visible_keys"]

Cache = dict[str, Any]
"""`position`, `history` and `state`; a pytree of arrays."""

Shift = Callable[..., Array]
"""`shift(scores, first)`, where the rows start at that position (see `BlockFunctions.shifts`)."""

POSITIONS = -2
"""The axis of positions, in every layout."""


def init_cache(graph: Graph, unit: int, batch: int, length: int, dtype: Any = jnp.float32) -> Cache:
    """A cache before the first position.

    Args:
        graph: a canonical program.
        unit: channels in a unit of relative width.
        batch: sequences.
        length: positions the cache has room for.
        dtype: what it keeps numbers in.

    Raises:
        InvalidProgramError: the program is not proved causal; then decoding has no meaning.
        UsageError: there is no sequence, or no position.
    """
    if batch < 1 or length < 1:
        raise UsageError(f"a cache of {batch} sequences of {length} positions holds nothing; both must be at least 1")
    prove_causal(graph)
    kept = decode_plan(graph)

    def rows(source: int, positions: int, value: float = 0.0) -> Array:
        node = graph.nodes[source]
        branches = [graph.scopes[scope] for scope in node.scope]
        return jnp.full((*branches, batch, positions, channels(node.value, unit, length)), value, dtype)

    return {
        "position": jnp.zeros((), jnp.int32),
        "history": {name: rows(index, length) for index, name in _names(graph, kept.history).items()},
        "state": {
            name: rows(state_source(graph, index), kept.state[index], OPS[graph.nodes[index].op].before_start)
            for index, name in _names(graph, kept.state).items()
        },
    }


def decode(
    graph: Graph,
    parameters: Sequence[dict[str, Array]],
    cache: Cache,
    x: Float[Array, "batch new width"],
    shifts: Mapping[int, Shift],
) -> tuple[Float[Array, "batch new width"], Cache]:
    """The outputs at the next positions, and the cache after them.

    Past the end of the cache the outputs are NaN: a traced position cannot raise an error.

    Args:
        graph: a canonical program.
        parameters: for each node its learned arrays.
        cache: of `init_cache`, or of an earlier call.
        x: the inputs at the next positions, one or more.
        shifts: for some nodes of one operand, what is done to the operand first.

    Raises:
        UsageError: there are more new positions than the cache has room for, or other sequences.
    """
    _check(cache, x)
    step = _Step(graph, cache, x.shape[POSITIONS], shifts)
    y = evaluate(graph, parameters, x, jnp, step.before, compute_hook=step.compute_hook)
    length = _length(cache)
    if length is not None:
        y = nan_past_end(y, step.position, length)
    return y, {"position": step.position + x.shape[POSITIONS], "history": step.history, "state": step.state}


def nan_past_end(y: Float[Array, "batch new width"], position: Array, length: int) -> Float[Array, "batch new width"]:
    """`y` where the new positions from `position` on are within a cache of `length`, else NaN."""
    return jnp.where(position + y.shape[POSITIONS] <= length, y, jnp.nan)


def visible_keys(rows: int, keys: int, first: int | Array = 0) -> Bool[Array, "rows keys"]:
    """Which keys are not later than their row, where the rows start at position `first`."""
    return jnp.arange(keys) <= first + jnp.arange(rows)[:, None]


class _Step:
    """One walk over the graph: fills `history` and `state` as it goes.

    Values of nodes have the rows of the new positions only, except `DecodePlan.recomputed_scores`, which have all rows.
    """

    def __init__(self, graph: Graph, cache: Cache, new: int, shifts: Mapping[int, Shift]):
        self.graph = graph
        self.new = new
        self.position = cache["position"]
        self.kept = decode_plan(graph)
        self.names = {"history": _names(graph, self.kept.history), "state": _names(graph, self.kept.state)}
        self.cache = cache
        self.history: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        self.before = {index: partial(shift, first=self._first(index)) for index, shift in shifts.items()}

    def compute_hook(self, index: int, operands: Sequence[Array], compute: Compute) -> Array:
        """A node's value; `compute` gives it, from operands with all the positions that it needs."""
        node = self.graph.nodes[index]
        op = OPS[node.op]
        if index in self.kept.recomputed_scores:
            return compute([self._all(i, value) for i, value in zip(node.inputs, operands, strict=True)])
        rows = [self._new(i, value) for i, value in zip(node.inputs, operands, strict=True)]
        if op.time_dependence is TimeDependence.MASKS:
            return jnp.where(visible_keys(self.new, rows[0].shape[-1], self.position), rows[0], 0)
        if op.decode_state is DecodeState.SECOND:
            return compute([rows[0], self._all(node.inputs[1], operands[1])])
        if index in self.kept.state:
            return self._continued(index, op.decode_state, rows[0], compute)
        return compute(rows)

    def _first(self, index: int) -> int | Array:
        """The position of the first row of a node's operand."""
        return 0 if index in self.kept.recomputed_scores else self.position

    def _new(self, index: int, value: Array) -> Array:
        """The rows of the new positions."""
        if index not in self.kept.recomputed_scores:
            return value
        return lax.dynamic_slice_in_dim(value, self.position, self.new, axis=POSITIONS)

    def _all(self, index: int, value: Array) -> Array:
        """The rows of all positions; what is new goes into the history."""
        if index in self.kept.recomputed_scores:
            return value
        name = self.names["history"][index]
        if name not in self.history:
            earlier = self.cache["history"][name]
            self.history[name] = lax.dynamic_update_slice_in_dim(
                earlier, value.astype(earlier.dtype), self.position, axis=POSITIONS
            )
        return self.history[name].astype(value.dtype)

    def _continued(self, index: int, keep: DecodeState, value: Array, compute: Compute) -> Array:
        """An op that runs along the length, continued from its last inputs, or its last output as one more input.

        What runs on and on does so in the cache's precision, if that is higher: rounded at every step it would drift.
        """
        name, few = self.names["state"][index], self.kept.state[index]
        earlier = self.cache["state"][name]
        dtype = value.dtype if keep is DecodeState.INPUTS else jnp.promote_types(earlier.dtype, value.dtype)
        inputs = jnp.concatenate([earlier.astype(dtype), value.astype(dtype)], axis=POSITIONS)
        outputs = compute([inputs])
        last = (inputs if keep is DecodeState.INPUTS else outputs)[..., -few:, :]
        self.state[name] = last.astype(earlier.dtype)
        return outputs[..., few:, :].astype(value.dtype)


def _check(cache: Cache, x: Array) -> None:
    """Refuse inputs that are not of the cache's sequences, or too long for it."""
    for array in (*cache["history"].values(), *cache["state"].values()):
        if array.shape[-3] != x.shape[0]:
            raise UsageError(f"the cache is of {array.shape[-3]} sequences, not {x.shape[0]}; make one with that batch")
    length = _length(cache)
    if length is not None and x.shape[POSITIONS] > length:
        raise UsageError(f"{x.shape[POSITIONS]} new positions do not fit into a cache of {length}; make a longer one")


def _length(cache: Cache) -> int | None:
    """How many positions the cache has room for; None where it keeps no history."""
    return next((array.shape[POSITIONS] for array in cache["history"].values()), None)


def _names(graph: Graph, indices: Iterable[int]) -> dict[int, str]:
    """Readable names of nodes, by their index: the calls they came from, numbered where several have the same."""
    names: dict[str, int] = {}
    for index in sorted(indices):
        node = graph.nodes[index]
        path = ".".join(node.labels) or node.op.lower()
        numbered = (path if number == 1 else f"{path}_{number}" for number in count(1))
        names[next(name for name in numbered if name not in names)] = index
    return {index: name for name, index in names.items()}
