"""What decoding keeps of a program, so that a new position costs no pass over the earlier ones.

Each row of the op table says what its op keeps: a convolution its last inputs, a running sum its last output, a product
with scores its second operand (keys, values) of every position. The rest is computed for new positions alone. Scores
are rows: a position's own, over all keys.

Two uses of scores need earlier rows with the new columns, which those did not have when they were computed: scores
times scores, and ops that run along the length. There all rows are computed again from what they are made of, which is
kept (our choice: rare, and right). Later positions count as zeros meanwhile; a causal program does not look at them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .graph import Graph
from .ops import OPS, DecodeState, TimeDependence
from .value_types import Kind, channels

__all__ = ["CacheSize", "DecodePlan", "cache_size", "decode_plan", "state_source"]


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """How a program is decoded; indices are of the graph's nodes.

    Attributes:
        history: activations and scalars of which every position is kept.
        state: ops that keep a few rows, and how many: a convolution of its inputs, a running op of its output.
        recomputed_scores: scores of which all rows are computed, from the history of what they are made of.
    """

    history: frozenset[int]
    state: dict[int, int]
    recomputed_scores: frozenset[int]


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Numbers that the cache of one block and one sequence holds.

    Attributes:
        per_position: for each position, whatever came before it.
        fixed: besides, however long the sequence.
    """

    per_position: int
    fixed: int


def decode_plan(graph: Graph) -> DecodePlan:
    """How to decode a canonical program."""
    complete: set[int] = set()
    state: dict[int, int] = {}
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op not in OPS:
            continue
        op = OPS[node.op]
        scores = node.value.kind is Kind.SCORES
        if op.decode_state is DecodeState.SECOND:
            complete.add(node.inputs[1])
        elif op.decode_state is not DecodeState.NOTHING and not scores:
            state[index] = op.kernel - 1 if op.decode_state is DecodeState.INPUTS else 1
        if scores and (index in complete or op.time_dependence is TimeDependence.PAST):
            complete |= {index, *node.inputs}
    whole = frozenset(index for index in complete if graph.nodes[index].value.kind is Kind.SCORES)
    return DecodePlan(frozenset(complete) - whole, state, whole)


def state_source(graph: Graph, index: int) -> int:
    """The node whose rows the state of an op holds: its operand or itself."""
    node = graph.nodes[index]
    return node.inputs[0] if OPS[node.op].decode_state is DecodeState.INPUTS else index


def cache_size(graph: Graph, unit: int, length: int = 0) -> CacheSize:
    """What decoding a block keeps.

    Args:
        graph: a canonical program.
        unit: channels in a unit of relative width.
        length: sequence length; matters only where the program is tied to one.

    Example:
        >>> from primer_search.primitives import build_graph, library
        >>> cache_size(build_graph(library.PRIMER_EZ), 64)  # keys and values; two inputs of each of three convolutions
        CacheSize(per_position=1024, fixed=3072)
    """
    kept = decode_plan(graph)

    def size(index: int) -> int:
        node = graph.nodes[index]
        return channels(node.value, unit, length) * math.prod(graph.scopes[scope] for scope in node.scope)

    return CacheSize(
        sum(size(index) for index in kept.history),
        sum(rows * size(state_source(graph, index)) for index, rows in kept.state.items()),
    )
