"""Grouping of the nodes of a canonical graph into the steps of an exported module.

Several nodes become one step if they are an idiom (`primitives.graphs.idioms`), a dense layer with its bias, a norm
with its scale and bias, or branches and the dense layer that reads them. The layout of a value follows from the step
that computes it and from the layouts of its inputs: layers have time as the second axis (`ROWS`), and scores have the
branches before the time axis (`GRID`).
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from graphlib import TopologicalSorter

from ....primitives.graphs.decode_state import decode_plan
from ....primitives.graphs.graph import CONCAT, Graph, Node, graph_readers
from ....primitives.graphs.idioms import Idiom, IdiomKind, find_idioms
from ....primitives.graphs.query_scales import query_scales
from ....primitives.ops.op_table import OPS, DecodeState, Op, TimeDependence
from ....primitives.ops.value_types import Kind
from .steps import ExportPlan, Layer, LayerKind, Layout, Step, time_of

__all__ = ["plan_export"]

NORMS = {IdiomKind.LAYER_NORM: LayerKind.LAYER_NORM, IdiomKind.RMS_NORM: LayerKind.RMS_NORM}


def plan_export(graph: Graph, unit: int) -> ExportPlan:
    """Return the plan of an exported module, with its steps in program order; `unit` is its unit of width."""
    readers = graph_readers(graph)
    idioms = find_idioms(graph)
    inside = {node for idiom in idioms.values() for node in idiom.nodes[:-1]}
    steps: dict[int, Step] = {}
    for index, node in enumerate(graph.nodes):
        if index in inside or not node.inputs:
            continue
        previous = steps.get(node.inputs[0])
        fused = _fused(graph, index, previous) if previous and readers[previous.node] == [index] else None
        if fused is not None and previous is not None:
            del steps[previous.node]
            steps[index] = Step(index, previous.inputs, fused)
        elif index in idioms:
            steps[index] = _idiom_step(graph, index, idioms[index])
        else:
            steps[index] = Step(index, node.inputs, _layer(graph, index))
    ordered = _in_program_order(graph, steps)
    scales = frozenset(query_scales(graph, unit))
    return ExportPlan(graph, _with_layouts(graph, ordered), decode_plan(graph), _adjustable_scopes(graph), scales)


# --- steps ------------------------------------------------------------------------------------------------------


def _idiom_step(graph: Graph, index: int, idiom: Idiom) -> Step:
    if idiom.kind not in NORMS:
        return Step(index, (idiom.source,), idiom=idiom.kind)
    source, node = graph.nodes[idiom.source], graph.nodes[index]
    layer = Layer(NORMS[idiom.kind], idiom.nodes, (), (), node.scope, source.scope, source.value, node.value)
    return Step(index, (idiom.source,), layer)


def _layer(graph: Graph, index: int) -> Layer | None:
    """Return the layer that computes this node alone, or None if a plain function computes it."""
    node = graph.nodes[index]
    source = graph.nodes[node.inputs[0]]
    if node.op == CONCAT:
        return None
    op = OPS[node.op]
    if op.definition:
        kind = _plugin_kind(op, node)
    elif op.uses_dimension:
        branched = bool(source.scope)
        kind = LayerKind.CONV if op.kernel > 1 else LayerKind.BRANCHED_LINEAR if branched else LayerKind.LINEAR
    elif op.kernel > 1:
        kind = LayerKind.DEPTHWISE
    elif op.decode_state is DecodeState.MATRIX:
        kind = LayerKind.LEAST_SQUARES
    elif op.parameters:
        kind = LayerKind.VECTOR
    elif op.time_dependence is TimeDependence.PAST and node.value.kind is not Kind.SCORES:
        kind = LayerKind.RUNNING_SUM if op.before_start == 0 else LayerKind.RUNNING_PRODUCT
    else:
        kind = None
    if kind is None:
        return None
    learned, ops = ((index,), (node.op,)) if op.parameters else ((), ())
    return Layer(kind, (index,), learned, ops, node.scope, source.scope, source.value, node.value, op.kernel,
                 node.op if op.definition else "", node.constant)  # fmt: skip


def _plugin_kind(op: Op, node: Node) -> LayerKind | None:
    """Return the kind of layer for an op of a plugin, or None if the op has neither parameters nor decoding state."""
    if op.decode_state in (DecodeState.INPUTS, DecodeState.OUTPUT) and node.value.kind is not Kind.SCORES:
        return LayerKind.PLUGIN_STATEFUL
    return LayerKind.PLUGIN if op.parameters else None


def _fused(graph: Graph, index: int, previous: Step) -> Layer | None:
    """Return the layer that computes a node and the previous step together, or None.

    The node is the only reader of that step.
    """
    if previous.layer is not None:
        return _with_vector(graph, index, previous.node, previous.layer)
    return _joining(graph, index, previous.node)


def _with_vector(graph: Graph, index: int, previous: int, layer: Layer) -> Layer | None:
    """Extend a layer by a SCALE or SHIFT of its output; None if layers of this kind cannot include it."""
    node = graph.nodes[index]
    if node.op not in ("SCALE", "SHIFT") or node.scope != graph.nodes[previous].scope:
        return None
    accepts = {
        LayerKind.LINEAR: node.op == "SHIFT" and "SHIFT" not in layer.ops,
        LayerKind.LAYER_NORM: not node.scope and "SHIFT" not in layer.ops and node.op not in layer.ops,
        LayerKind.RMS_NORM: not node.scope and node.op == "SCALE" and not layer.ops,
    }
    if not accepts.get(layer.kind, False):
        return None
    return replace(layer, nodes=(*layer.nodes, index), learned=(*layer.learned, index), ops=(*layer.ops, node.op))


def _joining(graph: Graph, index: int, concat: int) -> Layer | None:
    """Return the dense layer that reads branches without concatenating them, or None if the node is not such a layer.

    The output projection of an attention is an example.
    """
    node, joined = graph.nodes[index], graph.nodes[concat]
    if node.op != "CONV_1X1" or joined.op != CONCAT or node.scope:
        return None
    inner = graph.nodes[joined.inputs[0]]
    if inner.scope != (joined.joins,):
        return None
    return Layer(LayerKind.LINEAR, (concat, index), (index,), (node.op,), (), inner.scope, inner.value, node.value)


def _in_program_order(graph: Graph, steps: dict[int, Step]) -> tuple[Step, ...]:
    """Return the steps in topological order; if several can come next, the first one in the program is chosen."""
    sorter = TopologicalSorter({index: [i for i in step.inputs if i in steps] for index, step in steps.items()})
    sorter.prepare()
    ready: list[tuple[tuple[int, ...], int]] = []
    ordered: list[Step] = []
    while sorter.is_active():
        for index in sorter.get_ready():
            # Words in a path mark resizes of widths, which come before the instruction that needs them.
            path = tuple(part if isinstance(part, int) else -1 for part in graph.nodes[index].path)
            heapq.heappush(ready, (path, index))
        _, index = heapq.heappop(ready)
        ordered.append(steps[index])
        sorter.done(index)
    return tuple(ordered)


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
    time = time_of(node.op)
    if time in (TimeDependence.PAIRS, TimeDependence.MASKS) or step.idiom is IdiomKind.CAUSAL_SOFTMAX:
        return Layout.GRID
    if time is TimeDependence.MIXES:
        return Layout.GRID if node.value.kind is Kind.SCORES else Layout.ROWS
    if time is TimeDependence.PAST:
        return Layout.GRID  # along the rows of scores
    if len(set(inputs)) == 1 or node.op == CONCAT:
        return inputs[0]
    return Layout.GRID if node.value.kind is Kind.SCORES else Layout.ROWS


def _is_built_in_or_stateless(node: Node) -> bool:
    """Whether an op is built in, or belongs to a plugin and keeps no state in decoding."""
    return not OPS[node.op].definition or OPS[node.op].decode_state is DecodeState.NOTHING


def _adjustable_scopes(graph: Graph) -> frozenset[int]:
    """Return the branch scopes in which the number of branches may be changed.

    Every width inside such a scope is a fraction of the model's width, and no width inside has to equal the width of a
    value from outside the scope.
    """
    fixed: set[int] = set()
    for node in graph.nodes:
        inputs = [graph.nodes[i] for i in node.inputs]
        if node.op == CONCAT:
            if node.joins is not None and node.joins not in inputs[0].scope:
                fixed.add(node.joins)  # repeats a value, so the result has a multiple of the value's width
        elif (
            node.op in OPS
            and node.op != "MAT_MUL"
            and not (OPS[node.op].uses_dimension and _is_built_in_or_stateless(node))
        ):
            for value in inputs:
                if value.value.kind is Kind.ACTIVATION or OPS[node.op].time_dependence is TimeDependence.PAST:
                    fixed |= set(node.scope) - set(value.scope)
        elif node.op == "MAT_MUL" and node.value.kind is Kind.ACTIVATION:
            fixed |= set(node.scope) - set(inputs[1].scope)
    return frozenset(range(len(graph.scopes))) - fixed
