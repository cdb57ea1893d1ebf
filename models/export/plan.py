"""What an exported module consists of: layers that own parameters, and steps that compute values.

    Graph --make_plan--> Plan: one Step for each statement-to-be, in the order of the program's instructions

The plan is where several nodes become one step: an idiom (`idioms`), a bias after a dense layer, scale and bias after a
norm. Values lie in one of two layouts (`Layout`), so that time is always the second axis of what layers see, and
attention is the product of matrices that it is elsewhere.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from ...primitives.decode_state import DecodePlan, decode_plan
from ...primitives.graph import CONCAT, Graph, Node
from ...primitives.ops import OPS, TimeDependence
from ...primitives.value_types import Kind, Value
from .idioms import Idiom, IdiomKind, find_idioms, graph_readers

__all__ = ["ExportPlan", "Layer", "LayerKind", "Layout", "Step", "plan_export"]


class LayerKind(Enum):
    """What a layer becomes in Flax; the value is the noun in its name."""

    LINEAR = "projection"
    BRANCHED_LINEAR = "branched_projection"
    CONV = "causal_conv"
    DEPTHWISE = "conv"
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"
    RUNNING_SUM = "running_sum"
    RUNNING_PRODUCT = "running_product"
    VECTOR = "vector"


NORMS = {IdiomKind.LAYER_NORM: LayerKind.LAYER_NORM, IdiomKind.RMS_NORM: LayerKind.RMS_NORM}


class Layout(Enum):
    """Where the axes of a value are; branches are those of the calls it is inside of."""

    ROWS = "[batch, length, *branches, width]"
    GRID = "[batch, *branches, length, keys]"


@dataclass(frozen=True, slots=True)
class Layer:
    """A submodule, or (`VECTOR`) a learned vector.

    Attributes:
        kind: which module.
        nodes: the nodes it computes, in order; the last one's value is its output.
        learned: those of them that own parameters, and `ops` what they are.
        scope: branch scopes its parameters are inside of.
        source_scope: those its input is inside of.
        source: kind and width of its input.
        target: kind and width of its output, in one branch.
        kernel: positions it sees.
    """

    kind: LayerKind
    nodes: tuple[int, ...]
    learned: tuple[int, ...]
    ops: tuple[str, ...]
    scope: tuple[int, ...]
    source_scope: tuple[int, ...]
    source: Value
    target: Value
    kernel: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One value of the exported program: `node` computed from `inputs`.

    Attributes:
        node: index in the graph.
        inputs: nodes of other steps, or the graph's input.
        layer: the layer that computes it, if one does.
        idiom: the function of `jax.nn` that computes it, if one does.
        layout: of its value.
    """

    node: int
    inputs: tuple[int, ...]
    layer: Layer | None = None
    idiom: IdiomKind | None = None
    layout: Layout = Layout.ROWS


@dataclass(frozen=True)
class ExportPlan:
    """Steps in printing order, with the graph they came from.

    Attributes:
        graph: the canonical program.
        steps: each after those it reads.
        decoding: what is kept between calls that decode.
        adjustable: scopes whose number of branches may differ from the program's, as nothing inside has another width
            than its share of the model's.
        query_scales: products with a constant that is 1 / sqrt(head width) at the size of the export.
    """

    graph: Graph
    steps: tuple[Step, ...]
    decoding: DecodePlan
    adjustable: frozenset[int]
    query_scales: frozenset[int]

    @cached_property
    def by_node(self) -> Mapping[int, Step]:
        """Steps by the node that they compute."""
        return {step.node: step for step in self.steps}

    @cached_property
    def readers(self) -> Mapping[int, tuple[int, ...]]:
        """For each node that a step reads, the nodes of those steps, with repeats."""
        readers: dict[int, tuple[int, ...]] = {}
        for step in self.steps:
            for operand in step.inputs:
                readers[operand] = (*readers.get(operand, ()), step.node)
        return readers

    def layout(self, node: int) -> Layout:
        """The layout of a step's value, or of the input."""
        return self.by_node[node].layout if node in self.by_node else Layout.ROWS

    def section(self, node: int) -> str:
        """The call in MAIN that a step's value came from; empty for the input and for what MAIN itself computes."""
        if node not in self.by_node:
            return ""
        layer = self.by_node[node].layer
        labels = self.graph.nodes[layer.nodes[0] if layer else node].labels
        return labels[0] if len(labels) > 1 else ""

    def reads_all(self, step: Step, slot: int) -> bool:
        """Whether a step needs an operand at every position, not at the new ones alone, in decoding."""
        whole = step.node in self.decoding.recomputed_scores
        return whole or (slot == 1 and self.graph.nodes[step.node].op in ("MAT_MUL", "T_MAT_MUL"))


def plan_export(graph: Graph, unit: int) -> ExportPlan:
    """Group the nodes of a canonical graph into steps, and order them for reading.

    Args:
        graph: a canonical program.
        unit: channels in a unit of relative width where the program was found.
    """
    readers = graph_readers(graph)
    idioms = find_idioms(graph)
    inside = {node for idiom in idioms.values() for node in idiom.nodes[:-1]}
    steps: dict[int, Step] = {}
    for index, node in enumerate(graph.nodes):
        if index in inside or not node.inputs:
            continue
        before = steps.get(node.inputs[0])
        joined = _joined(graph, index, before, readers) if before else None
        if before is not None and joined is None and readers[before.node] == [index]:
            joined = _joining(graph, index, before.node)
        if joined is not None and before is not None:
            del steps[before.node]  # its inputs are now this step's
            steps[index] = Step(index, before.inputs, joined)
        elif index in idioms:
            steps[index] = _idiom_step(graph, index, idioms[index])
        else:
            steps[index] = Step(index, node.inputs, _layer(graph, index))
    ordered = _in_program_order(graph, steps)
    return ExportPlan(
        graph, _with_layouts(graph, ordered), decode_plan(graph), _adjustable(graph), _query_scales(graph, unit)
    )


# --- steps ------------------------------------------------------------------------------------------------------


def _idiom_step(graph: Graph, index: int, idiom: Idiom) -> Step:
    if idiom.kind not in NORMS:
        return Step(index, (idiom.source,), idiom=idiom.kind)
    source, node = graph.nodes[idiom.source], graph.nodes[index]
    kind = NORMS[idiom.kind]
    layer = Layer(kind, idiom.nodes, (), (), node.scope, source.scope, source.value, node.value)
    return Step(index, (idiom.source,), layer)


def _layer(graph: Graph, index: int) -> Layer | None:
    node = graph.nodes[index]
    source = graph.nodes[node.inputs[0]]
    if node.op == CONCAT:
        return None
    op = OPS[node.op]
    if op.uses_dimension:
        branched = bool(source.scope)
        kind = LayerKind.CONV if op.kernel > 1 else LayerKind.BRANCHED_LINEAR if branched else LayerKind.LINEAR
    elif op.kernel > 1:
        kind = LayerKind.DEPTHWISE
    elif op.parameters:
        kind = LayerKind.VECTOR
    elif op.time_dependence is TimeDependence.PAST and node.value.kind is not Kind.SCORES:
        kind = LayerKind.RUNNING_SUM if op.before_start == 0 else LayerKind.RUNNING_PRODUCT
    else:
        return None
    learned, ops = ((index,), (node.op,)) if op.parameters else ((), ())
    return Layer(kind, (index,), learned, ops, node.scope, source.scope, source.value, node.value, op.kernel)


def _joined(graph: Graph, index: int, before: Step, readers: dict[int, list[int]]) -> Layer | None:
    """The layer that computes a SCALE or SHIFT together with the layer before it, if nothing else reads that one."""
    node, layer = graph.nodes[index], before.layer
    if node.op not in ("SCALE", "SHIFT") or layer is None or readers[before.node] != [index]:
        return None
    if node.scope != graph.nodes[before.node].scope:
        return None
    has = layer.ops
    takes = {
        LayerKind.LINEAR: node.op == "SHIFT" and "SHIFT" not in has,
        LayerKind.LAYER_NORM: not node.scope and "SHIFT" not in has and node.op not in has,
        LayerKind.RMS_NORM: not node.scope and node.op == "SCALE" and not has,
    }
    if not takes.get(layer.kind, False):
        return None
    return replace(layer, nodes=(*layer.nodes, index), learned=(*layer.learned, index), ops=(*layer.ops, node.op))


def _joining(graph: Graph, index: int, concat: int) -> Layer | None:
    """The dense layer that reads the branches of its input as they are, not side by side: an attention's last."""
    node, joined = graph.nodes[index], graph.nodes[concat]
    if node.op != "CONV_1X1" or joined.op != CONCAT or node.scope:
        return None
    inner = graph.nodes[joined.inputs[0]]
    if inner.scope != (joined.joins,):
        return None
    return Layer(LayerKind.LINEAR, (concat, index), (index,), (node.op,), (), inner.scope, inner.value, node.value)


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


# --- layouts and branches ---------------------------------------------------------------------------------------


def _with_layouts(graph: Graph, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    layouts: dict[int, Layout] = {}
    for step in steps:
        layouts[step.node] = _layout(graph, step, [layouts.get(i, Layout.ROWS) for i in step.inputs])
    return tuple(replace(step, layout=layouts[step.node]) for step in steps)


def _layout(graph: Graph, step: Step, inputs: list[Layout]) -> Layout:
    node = graph.nodes[step.node]
    if step.layer is not None:
        return inputs[0] if step.layer.kind is LayerKind.VECTOR else Layout.ROWS
    if node.op in ("T_MAT_MUL", "MASK") or step.idiom is IdiomKind.CAUSAL_SOFTMAX:
        return Layout.GRID
    if node.op == "MAT_MUL":
        return Layout.GRID if node.value.kind is Kind.SCORES else Layout.ROWS
    if node.op in OPS and OPS[node.op].time_dependence is TimeDependence.PAST:
        return Layout.GRID  # along the rows of scores
    if len(set(inputs)) == 1 or node.op == CONCAT:
        return inputs[0]
    return Layout.GRID if node.value.kind is Kind.SCORES else Layout.ROWS


def _adjustable(graph: Graph) -> frozenset[int]:
    """Scopes in which every width is a share of the model's: none is that of a value from outside."""
    fixed: set[int] = set()
    for node in graph.nodes:
        inputs = [graph.nodes[i] for i in node.inputs]
        if node.op == CONCAT:
            if node.joins is not None and node.joins not in inputs[0].scope:
                fixed.add(node.joins)  # repeats a value: its width is so many times that value's
        elif node.op in OPS and not OPS[node.op].uses_dimension and node.op != "MAT_MUL":
            for value in inputs:
                if value.value.kind is Kind.ACTIVATION:
                    fixed |= set(node.scope) - set(value.scope)
        elif node.op == "MAT_MUL" and node.value.kind is Kind.ACTIVATION:
            fixed |= set(node.scope) - set(inputs[1].scope)
    return frozenset(range(len(graph.scopes))) - fixed


def _query_scales(graph: Graph, unit: int) -> frozenset[int]:
    """C_MULs by 1 / sqrt(width) of what T_MAT_MUL compares."""
    compared = {node.inputs[0] for node in graph.nodes if node.op == "T_MAT_MUL"}
    found = set()
    for index in compared:
        node = graph.nodes[index]
        if node.op != "C_MUL" or node.value.width is None or node.constant is None:
            continue
        if math.isclose(node.constant, float(node.value.width * unit) ** -0.5, rel_tol=1e-9):
            found.add(index)
    return frozenset(found)
