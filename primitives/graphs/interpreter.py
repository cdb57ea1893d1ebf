"""Interpreter of canonical graphs for NumPy (float64, the reference) and JAX.

Branches are leading array axes: a value inside branch scopes of 2 and 8 is `[2, 8, batch, length, width]`. No loop runs
over the branches, and values that do not depend on a branch are computed once and broadcast. Decoding
(`models.decoding`) evaluates new positions only, and adds its cached values through `compute_hook`. A compiled block
computes some groups of nodes in one call, through `fused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from ..ops.op_table import OPS
from .graph import CONCAT, INPUT, Graph, Node

__all__ = ["Compute", "ComputeHook", "FusedGroup", "evaluate", "evaluate_reference"]

Array = Any

Compute = Callable[..., Array]
"""Computes the value of a node from its operands; keyword arguments are passed to `Op.apply`."""

ComputeHook = Callable[[int, Sequence[Array], Compute], Array]
"""Computes the value of a node from its index, its operands, and the function that computes it without the hook."""


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """A group of nodes that one call computes.

    Attributes:
        source: node that the group is computed from.
        inside: nodes of the group except its result. Nothing else reads them.
        function: function of the source's value that returns the result.
    """

    source: int
    inside: frozenset[int]
    function: Callable[[Array], Array]


def evaluate(
    graph: Graph,
    parameters: Sequence[dict[str, Array]],
    x: Array,
    xp: Any,
    operand_hooks: Mapping[int, Callable[[Array], Array]] = MappingProxyType({}),
    observe: Callable[[Array], None] | None = None,
    compute_hook: ComputeHook | None = None,
    fused: Mapping[int, FusedGroup] = MappingProxyType({}),
    fast_ops: Mapping[str, Callable[..., Array]] = MappingProxyType({}),
) -> Array:
    """Return the output of the block.

    Args:
        graph: canonical program.
        parameters: learned arrays of each node, with leading branch axes.
        x: input `[batch, length, width]`.
        xp: array namespace, `numpy` or `jax.numpy`.
        operand_hooks: functions applied to the operand of some nodes with one operand, by node (see `models.block`).
        observe: function called with the value of every node, in order; not possible together with `fused`.
        compute_hook: function that computes the value of each op (see `models.decoding`).
        fused: groups that are computed in one call, by the node that is the result of the group.
        fast_ops: functions that replace the `apply` of some ops, by name.

    Returns:
        `[batch, length, width]`.
    """
    assert observe is None or not fused, "the values inside of fused groups cannot be observed"
    inside = frozenset[int]().union(*(group.inside for group in fused.values()))
    results: list[Array] = []
    for index, (node, learned) in enumerate(zip(graph.nodes, parameters, strict=True)):
        if node.op == INPUT:
            results.append(x)
        elif index in inside:
            results.append(None)
        elif index in fused:
            results.append(fused[index].function(results[fused[index].source]))
        elif node.op == CONCAT:
            results.append(_join(graph, node, results[node.inputs[0]], xp))
        else:
            operands = [results[i] for i in node.inputs]
            apply = fast_ops.get(node.op, OPS[node.op].apply)
            compute = partial(_apply, apply, graph, node, learned, xp, operand_hooks.get(index))
            results.append(compute(operands) if compute_hook is None else compute_hook(index, operands, compute))
            del operands
        for read in graph.last_uses[index] if xp is np else ():
            results[read] = None  # NumPy then reuses the memory; new memory would cost more time than the arithmetic
        if observe is not None:
            observe(results[-1])
    return results[-1]


def evaluate_reference(
    graph: Graph,
    parameters: Sequence[dict[str, np.ndarray]],
    x: np.ndarray,
    compute_hook: ComputeHook | None = None,
) -> np.ndarray:
    """Return the output of the block in NumPy float64; overflow gives infinities and NaN, without warnings."""
    with np.errstate(all="ignore"):
        return evaluate(graph, parameters, np.asarray(x, np.float64), np, compute_hook=compute_hook)


def _apply(
    apply: Callable[..., Array],
    graph: Graph,
    node: Node,
    learned: dict[str, Array],
    xp: Any,
    operand_hook: Callable[[Array], Array] | None,
    operands: Sequence[Array],
    **given: Array,
) -> Array:
    depth = len(node.scope)
    aligned = list(operands)
    if depth > 1:
        aligned = [
            _align(operand, len(graph.nodes[i].scope), depth, xp)
            for i, operand in zip(node.inputs, operands, strict=True)
        ]
    if operand_hook is not None:
        aligned = [operand_hook(operand) for operand in aligned]
    # A parameter is combined with [branches..., batch, length, width]: give it an axis for the batch.
    if depth:
        learned = {key: xp.expand_dims(array, depth) for key, array in learned.items()}
    return apply(xp, aligned, learned, node.constant, OPS[node.op].kernel, **given)


def _align(value: Array, own: int, depth: int, xp: Any) -> Array:
    """Add the missing branch axes (of size 1) to a value of an outer scope, if it has branch axes at all."""
    if own in (0, depth):
        return value
    return xp.expand_dims(value, tuple(range(own, depth)))


def _join(graph: Graph, node: Node, value: Array, xp: Any) -> Array:
    assert node.joins is not None
    inner = graph.nodes[node.inputs[0]].scope
    if node.joins not in inner:
        return xp.concatenate([value] * graph.scopes[node.joins], axis=-1)
    value = xp.moveaxis(value, len(inner) - 1, -2)
    return value.reshape(*value.shape[:-2], -1)
