"""The learned arrays of a canonical graph: names, shapes, initial values.

Names are readable paths (`self_attention.head_projection_2.conv_1x1.kernel`). They are not part of the program's
identity. The arrays are in the canonical order of the graph, and random values are drawn in that order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..ops.op_table import OPS, Init
from ..ops.value_types import activation, channels
from .graph import Graph, Node

__all__ = ["ParameterSpec", "draw_arrays", "draw_parameter", "draw_parameters", "parameter_count", "parameter_specs"]


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One learned array.

    Attributes:
        node: index of its node in the graph.
        key: name within the op: `kernel`, `scale`, `bias` or `ridge`.
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
        unit: channels per unit of width.
        length: sequence length; needed only for a length-dependent program.

    Raises:
        InvalidProgramError: a width is not a whole number of channels.
    """
    specs: list[ParameterSpec] = []
    names: dict[str, int] = {}
    for index, node, in_size, size in _learning_nodes(graph, unit, length or 0):
        specs.extend(_node_specs(graph, index, node, in_size, size, names))
    return tuple(specs)


def parameter_count(graph: Graph, unit: int, length: int | None = None) -> int:
    """Return the number of learned scalars of one block; arguments and errors are those of `parameter_specs`."""
    count = 0
    for _, node, in_size, size in _learning_nodes(graph, unit, length or 0):
        copies = math.prod([graph.scopes[scope] for scope in node.scope])
        count += copies * sum([math.prod(shape) for shape in _own_shapes(node, in_size, size)])
    return count


def draw_parameters(
    graph: Graph, unit: int, rng: np.random.Generator, length: int | None = None
) -> list[dict[str, np.ndarray]]:
    """Return random float64 parameters of each node (see `draw_parameter`), for fingerprints and probes."""
    return draw_arrays(len(graph.nodes), parameter_specs(graph, unit, length), rng)


def draw_arrays(
    nodes: int, specs: Iterable[ParameterSpec], rng: np.random.Generator, gain: float = 1.0
) -> list[dict[str, np.ndarray]]:
    """Return random parameters of each node.

    Args:
        nodes: number of nodes.
        specs: learned arrays.
        rng: random generator.
        gain: factor that kernels are multiplied by.
    """
    drawn: list[dict[str, np.ndarray]] = [{} for _ in range(nodes)]
    for spec in specs:
        array = draw_parameter(spec, rng)
        drawn[spec.node][spec.key] = array * gain if gain != 1.0 and spec.key == "kernel" else array
    return drawn


def draw_parameter(spec: ParameterSpec, rng: np.random.Generator) -> np.ndarray:
    """Return a random array without neutral values (0 or 1), which would hide the effect of other ops.

    Kernels are normal with variance 1 / fan-in, scales uniform in [0.5, 1.5], biases and ridges normal with standard
    deviation 0.5.
    """
    if spec.init is Init.ONES:
        return rng.uniform(0.5, 1.5, spec.shape)
    if spec.init in (Init.ZEROS, Init.RIDGE):
        return 0.5 * rng.standard_normal(spec.shape)
    return rng.standard_normal(spec.shape) / math.sqrt(spec.fan_in)


def _learning_nodes(graph: Graph, unit: int, length: int) -> Iterator[tuple[int, Node, int, int]]:
    """Check the widths of all nodes. Yield index, node, channels of operand and of output for nodes with parameters."""
    sizes: list[int] = []
    for index, node in enumerate(graph.nodes):
        sizes.append(channels(node.value, unit, length))
        if node.parts > 1 and node.value.width is not None:
            channels(activation(node.value.width / node.parts), unit, length)
        if node.has_parameters:
            yield index, node, sizes[node.inputs[0]], sizes[index]


def _own_shapes(node: Node, in_size: int, size: int) -> list[tuple[int, ...]]:
    """Return the shape of each parameter of a node, without branch axes."""
    op = OPS[node.op]
    symbols = {"in": in_size, "out": size, "kernel": op.kernel}
    return [tuple([symbols[symbol] for symbol in parameter.shape]) for parameter in op.parameters]


def _node_specs(
    graph: Graph, index: int, node: Node, in_size: int, size: int, names: dict[str, int]
) -> list[ParameterSpec]:
    branches = tuple([graph.scopes[scope] for scope in node.scope])
    specs = []
    for parameter, own in zip(OPS[node.op].parameters, _own_shapes(node, in_size, size), strict=True):
        fan_in = math.prod(own[:-1]) if len(own) > 1 else 1
        path = ".".join((*node.labels, parameter.name))
        names[path] = names.get(path, 0) + 1
        unique = path if names[path] == 1 else ".".join((*node.labels, f"{parameter.name}_{names[path]}"))
        specs.append(
            ParameterSpec(index, parameter.name, unique, branches + own, parameter.init, fan_in, len(branches))
        )
    return specs
