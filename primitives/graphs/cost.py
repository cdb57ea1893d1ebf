"""Cost of a program: exact parameter count, and floating-point operations from the op table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..ops.op_table import OPS, OpSizes
from ..ops.value_types import MODEL_WIDTH, channels
from .graph import Graph, Node
from .parameters import parameter_count, parameter_specs

__all__ = ["Cost", "block_cost", "model_parameters", "node_costs"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one block.

    Attributes:
        parameters: number of learned scalars.
        flops_per_token: forward floating-point operations per position (multiply and add count as two).
    """

    parameters: int
    flops_per_token: float


def block_cost(graph: Graph, unit: int, length: int) -> Cost:
    """Return the cost of one block on sequences of `length` positions; attention counts masked pairs as well."""
    flops = sum(_flops(graph, node, unit, length) for node in graph.nodes if node.op in OPS)
    return Cost(parameter_count(graph, unit, length), flops)


def node_costs(graph: Graph, unit: int, length: int) -> list[Cost]:
    """Return the cost of each node of a graph; they sum to the cost of the block."""
    parameters = [0] * len(graph.nodes)
    for spec in parameter_specs(graph, unit, length):
        parameters[spec.node] += math.prod(spec.shape)
    return [
        Cost(count, _flops(graph, node, unit, length) if node.op in OPS else 0.0)
        for node, count in zip(graph.nodes, parameters, strict=True)
    ]


def model_parameters(block_parameters: int, unit: int, layers: int, vocabulary: int) -> int:
    """Return the parameter count of the language model: tied embedding, blocks, scale and bias of the final norm."""
    width = MODEL_WIDTH * unit
    return vocabulary * width + layers * block_parameters + 2 * width


def _flops(graph: Graph, node: Node, unit: int, length: int) -> float:
    op = OPS[node.op]
    in_size = channels(graph.nodes[node.inputs[0]].value, unit, length)
    sizes = OpSizes(in_size, channels(node.value, unit, length), length, op.kernel)
    return op.flops(sizes) * math.prod(graph.scopes[scope] for scope in node.scope)
