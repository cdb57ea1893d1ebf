"""The learned arrays of a canonical graph: names, shapes, initial values.

Names are readable paths (`self_attention.head_projection_2.conv_1x1.kernel`) and not part of the program's identity.
The order is the canonical order of the graph; random values are drawn in that order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, Node
from .ops import OPS, Init
from .value_types import activation, channels

__all__ = ["ParameterSpec", "draw_parameter", "draw_parameters", "parameter_count", "parameter_specs"]


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One learned array.

    Attributes:
        node: index of its node in the graph.
        key: name within the op: `kernel`, `scale` or `bias`.
        name: readable path, unique in the graph.
        shape: branch axes, outermost first, then the parameter's own axes.
        init: initial values.
        fan_in: number of inputs that one output sums over.
        branch_axes: number of leading branch axes.
    """

    node: int
    key: str
    name: str
    shape: tuple[int, ...]
    init: Init
    fan_in: int
    branch_axes: int


def parameter_specs(graph: Graph, unit: int, length: int | None = None) -> tuple[ParameterSpec, ...]:
    """Return all learned arrays in canonical order.

    Args:
        graph: canonical program.
        unit: channels in a unit of relative width.
        length: sequence length; needed only for a length-dependent program.

    Raises:
        InvalidProgramError: a width is not a whole number of channels.
    """
    specs: list[ParameterSpec] = []
    names: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        size = channels(node.value, unit, length or 0)  # validates also nodes without parameters
        if node.parts > 1 and node.value.width is not None:
            channels(activation(node.value.width / node.parts), unit, length or 0)
        if node.has_parameters:
            specs.extend(_node_specs(graph, index, node, size, unit, length or 0, names))
    return tuple(specs)


def parameter_count(graph: Graph, unit: int, length: int | None = None) -> int:
    """Return the number of learned scalars of one block."""
    return sum(math.prod(spec.shape) for spec in parameter_specs(graph, unit, length))


def draw_parameters(
    graph: Graph, unit: int, rng: np.random.Generator, length: int | None = None
) -> list[dict[str, np.ndarray]]:
    """Return random float64 parameters of each node (see `draw_parameter`), for fingerprints and probes."""
    drawn: list[dict[str, np.ndarray]] = [{} for _ in graph.nodes]
    for spec in parameter_specs(graph, unit, length):
        drawn[spec.node][spec.key] = draw_parameter(spec, rng)
    return drawn


def draw_parameter(spec: ParameterSpec, rng: np.random.Generator) -> np.ndarray:
    """Return a random array without neutral values (0 or 1), which would hide the effect of other ops.

    Kernels are normal with variance 1 / fan-in, scales uniform in [0.5, 1.5], biases normal with standard deviation
    0.5.
    """
    if spec.init is Init.ONES:
        return rng.uniform(0.5, 1.5, spec.shape)
    if spec.init is Init.ZEROS:
        return 0.5 * rng.standard_normal(spec.shape)
    return rng.standard_normal(spec.shape) / math.sqrt(spec.fan_in)


def _node_specs(
    graph: Graph, index: int, node: Node, size: int, unit: int, length: int, names: dict[str, int]
) -> list[ParameterSpec]:
    op = OPS[node.op]
    in_size = channels(graph.nodes[node.inputs[0]].value, unit, length)
    symbols: dict[str, Any] = {"in": in_size, "out": size, "kernel": op.kernel}
    branches = tuple(graph.scopes[scope] for scope in node.scope)
    specs = []
    for parameter in op.parameters:
        own = tuple(symbols[symbol] for symbol in parameter.shape)
        fan_in = math.prod(own[:-1]) if len(own) > 1 else 1
        path = ".".join((*node.labels, parameter.name))
        names[path] = names.get(path, 0) + 1
        unique = path if names[path] == 1 else ".".join((*node.labels, f"{parameter.name}_{names[path]}"))
        specs.append(
            ParameterSpec(index, parameter.name, unique, branches + own, parameter.init, fan_in, len(branches))
        )
    return specs
