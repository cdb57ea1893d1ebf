"""The state that step-by-step decoding caches, so that a new position needs no pass over earlier ones.

The op table defines the state of each op: the last inputs of a convolution; the last output of a running sum; for a
product that makes or applies scores, the second operand (keys, values) at every position; and the matrix that
LEAST_SQUARES solves with. All other values are computed for new positions only. Scores have one row per position, over
all keys.

Two uses of scores need earlier rows with new columns: scores times scores, and ops that run along the length. For these
all rows are recomputed from their cached operands (our choice, because such programs are rare). Positions that are not
decoded yet count as zeros; a causal program does not read them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..ops.op_table import OPS, DecodeState, TimeDependence
from ..ops.value_types import Kind, channels
from .graph import Graph

__all__ = ["CacheSize", "DecodePlan", "cache_size", "decode_plan", "state_source"]


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """Nodes that decoding caches or recomputes, by index in the graph.

    Attributes:
        history: activations and scalars cached at every position.
        state: ops that cache a few rows, and the number of rows: inputs of a convolution, outputs of a running op.
        matrices: ops that cache a square matrix, as wide as their result.
        recomputed_scores: scores of which every row is recomputed, from the history of their operands.
    """

    history: frozenset[int]
    state: dict[int, int]
    matrices: frozenset[int]
    recomputed_scores: frozenset[int]


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Count of cached numbers for one block and one sequence.

    Attributes:
        per_position: numbers per position.
        fixed: numbers independent of the sequence length.
    """

    per_position: int
    fixed: int


def decode_plan(graph: Graph) -> DecodePlan:
    """Return the nodes that decoding a canonical program caches or recomputes."""
    complete: set[int] = set()
    state: dict[int, int] = {}
    matrices: set[int] = set()
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op not in OPS:
            continue
        op = OPS[node.op]
        scores = node.value.kind is Kind.SCORES
        if op.decode_state is DecodeState.SECOND:
            complete.add(node.inputs[1])
        elif op.decode_state is DecodeState.MATRIX:
            matrices.add(index)
        elif op.decode_state is not DecodeState.NOTHING and not scores:
            state[index] = op.kernel - 1 if op.decode_state is DecodeState.INPUTS else 1
        if scores and (index in complete or op.time_dependence is TimeDependence.PAST):
            complete |= {index, *node.inputs}
    whole = frozenset(index for index in complete if graph.nodes[index].value.kind is Kind.SCORES)
    return DecodePlan(frozenset(complete) - whole, state, frozenset(matrices), whole)


def state_source(graph: Graph, index: int) -> int:
    """Return the node whose rows the state of an op holds: the operand of the op, or the op itself."""
    node = graph.nodes[index]
    return node.inputs[0] if OPS[node.op].decode_state is DecodeState.INPUTS else index


def cache_size(graph: Graph, unit: int, length: int = 0) -> CacheSize:
    """Return the size of the cache of one block.

    Args:
        graph: canonical program.
        unit: channels per unit of width.
        length: sequence length; used only for a length-dependent program.

    Example:
        >>> from primer_search import library
        >>> from primer_search.primitives import build_graph
        >>> cache_size(build_graph(library.PRIMER_EZ), 64)  # keys and values; two inputs of each of three convolutions
        CacheSize(per_position=1024, fixed=3072)
    """
    kept = decode_plan(graph)

    def width(index: int) -> int:
        return channels(graph.nodes[index].value, unit, length)

    def size(index: int) -> int:
        return width(index) * math.prod(graph.scopes[scope] for scope in graph.nodes[index].scope)

    return CacheSize(
        sum(size(index) for index in kept.history),
        sum(rows * size(state_source(graph, index)) for index, rows in kept.state.items())
        + sum(width(index) * size(index) for index in kept.matrices),
    )
