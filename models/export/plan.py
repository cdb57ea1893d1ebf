"""What an exported module consists of: layers that own parameters, and steps that compute values.

    Graph --plan--> Plan: one Step for each statement-to-be, in the order in which the program lists its instructions

The plan is where several nodes become one step. A bias after a dense layer joins it, and so does a shift after a
scale; recognisers of larger idioms (layer norm, softmax) belong here too. Values inside branches are
`[batch, *branches, length, width]`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from ...primitives.graph import Graph, Node
from ...primitives.ops import OPS
from ...primitives.parameters import ParameterSpec
from ...primitives.softmaxes import softmax_exponentials
from ...primitives.values import Value

__all__ = ["Layer", "LayerKind", "Placement", "Plan", "Step", "make_plan"]


class LayerKind(Enum):
    """The Flax module a layer becomes; its value is the noun in the layer's name."""

    LINEAR = "projection"
    CONV = "conv"
    BRANCHED_LINEAR = "branched_projection"
    BRANCHED_CONV = "branched_conv"
    DEPTHWISE = "depthwise_conv"
    SCALE = "scale"
    SHIFT = "bias"
    AFFINE = "affine"


@dataclass(frozen=True, slots=True)
class Layer:
    """A submodule of the block.

    Attributes:
        kind: which module.
        nodes: the nodes it computes, in order; the last one's value is its output.
        branches: sizes of the branch axes its parameters have.
        folded: whether the branches lie side by side in the last axis of its parameters, as one wide layer.
        source: kind and width of its input.
        target: kind and width of its output, in one branch.
        kernel: positions it sees.
        bias: whether it is a dense layer with a bias.
    """

    kind: LayerKind
    nodes: tuple[int, ...]
    branches: tuple[int, ...]
    folded: bool
    source: Value
    target: Value
    kernel: int
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One value of the exported program: `node` computed from `inputs`, by a layer or by a plain expression."""

    node: int
    inputs: tuple[int, ...]
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in printing order, with the graph they came from.

    Attributes:
        graph: the canonical program.
        steps: each after those it reads.
        readers: for each node that a step computes, the nodes of the steps that read it, with repeats.
        softmaxes: the EXP nodes whose scores are shifted first (see `primitives.softmaxes`).
    """

    graph: Graph
    steps: tuple[Step, ...]
    readers: dict[int, tuple[int, ...]]
    softmaxes: Mapping[int, bool]

    def placements(self, specs: Sequence[ParameterSpec], names: dict[int, str]) -> tuple[Placement, ...]:
        """Where each parameter of the compiled program lies in a module whose layers have these `names` (by output)."""
        owner = {node: step.layer for step in self.steps if step.layer for node in step.layer.nodes}
        return tuple(
            Placement(
                spec.name,
                (names[owner[spec.node].nodes[-1]], spec.key),
                spec.branch_axes if owner[spec.node].folded else 0,
            )
            for spec in specs
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """How a parameter of the compiled program is found in the exported module.

    Attributes:
        name: `ParameterSpec.name`.
        path: the layer's attribute and the parameter's attribute.
        folded_axes: how many leading branch axes move next to the last axis and merge with it.
    """

    name: str
    path: tuple[str, str]
    folded_axes: int = 0

    def carry(self, array: Any) -> np.ndarray:
        """A compiled parameter (or its gradient) in the shape the module holds it in."""
        array = np.asarray(array)
        if not self.folded_axes:
            return array
        axes = self.folded_axes
        moved = np.moveaxis(array, range(axes), range(array.ndim - 1 - axes, array.ndim - 1))
        return moved.reshape(*moved.shape[: array.ndim - 1 - axes], -1)


def make_plan(graph: Graph) -> Plan:
    """Group the nodes of a canonical graph into steps, and order them for reading."""
    readers = _readers(graph)
    steps: dict[int, Step] = {}
    for index, node in enumerate(graph.nodes):
        if not node.inputs:
            continue
        if not node.has_parameters:
            steps[index] = Step(index, node.inputs)
            continue
        before = steps.get(node.inputs[0])
        layer = _joined(graph, index, before, readers) if before else None
        if layer is not None and before is not None:
            del steps[before.node]
            steps[index] = Step(index, before.inputs, layer)
        else:
            steps[index] = Step(index, node.inputs, _layer(graph, index))
    ordered = _in_program_order(graph, steps)
    return Plan(graph, ordered, _step_readers(ordered), softmax_exponentials(graph))


def _layer(graph: Graph, index: int) -> Layer:
    node = graph.nodes[index]
    source = graph.nodes[node.inputs[0]]
    op = OPS[node.op]
    branches = tuple(graph.scopes[scope] for scope in node.scope)
    dense = op.uses_dimension
    folded = dense and bool(branches) and not source.scope
    if dense:
        wide = not branches or folded
        linear, conv = (
            (LayerKind.LINEAR, LayerKind.CONV) if wide else (LayerKind.BRANCHED_LINEAR, LayerKind.BRANCHED_CONV)
        )
        kind = linear if op.kernel == 1 else conv
    elif op.kernel > 1:
        kind = LayerKind.DEPTHWISE
    else:
        kind = LayerKind.SCALE if op.parameters[0].name == "scale" else LayerKind.SHIFT
    return Layer(kind, (index,), branches, folded, source.value, node.value, op.kernel)


def _joined(graph: Graph, index: int, before: Step, readers: dict[int, list[int]]) -> Layer | None:
    """The layer that computes a SHIFT together with the layer before it, if nothing else reads that one."""
    node, layer = graph.nodes[index], before.layer
    if node.op != "SHIFT" or layer is None or readers[before.node] != [index]:
        return None
    if node.scope != graph.nodes[before.node].scope:
        return None
    nodes = (*layer.nodes, index)
    if layer.kind in (LayerKind.LINEAR, LayerKind.CONV) and not layer.bias:
        return Layer(
            layer.kind, nodes, layer.branches, layer.folded, layer.source, layer.target, layer.kernel, bias=True
        )
    if layer.kind is LayerKind.SCALE:
        return Layer(LayerKind.AFFINE, nodes, layer.branches, False, layer.source, layer.target, 1)
    return None


def _readers(graph: Graph) -> dict[int, list[int]]:
    readers: dict[int, list[int]] = {index: [] for index in range(len(graph.nodes))}
    for index, node in enumerate(graph.nodes):
        for operand in node.inputs:
            readers[operand].append(index)
    return readers


def _step_readers(steps: Sequence[Step]) -> dict[int, tuple[int, ...]]:
    readers: dict[int, tuple[int, ...]] = {}
    for step in steps:
        for operand in step.inputs:
            readers[operand] = (*readers.get(operand, ()), step.node)
    return readers


def _in_program_order(graph: Graph, steps: dict[int, Step]) -> tuple[Step, ...]:
    """Topological order; among steps that are ready, the one the program lists first."""
    waiting = {index: {i for i in step.inputs if i in steps} for index, step in steps.items()}
    ready = [(_place(graph.nodes[index], index), index) for index, missing in waiting.items() if not missing]
    heapq.heapify(ready)
    ordered: list[Step] = []
    while ready:
        _, index = heapq.heappop(ready)
        ordered.append(steps[index])
        for later, missing in waiting.items():
            if index in missing:
                missing.discard(index)
                if not missing:
                    heapq.heappush(ready, (_place(graph.nodes[later], later), later))
    return tuple(ordered)


def _place(node: Node, index: int) -> tuple[tuple[int, ...], int]:
    # The parts of a path that are words mark repairs, which come before the instruction they repair for.
    return tuple(part if isinstance(part, int) else -1 for part in node.path), index
