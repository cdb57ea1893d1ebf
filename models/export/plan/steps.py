"""The steps of an exported module: layers that own parameters, and values that are computed from other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ....primitives.causality.packed_texts import mask_fault, packing_fault, takes_texts
from ....primitives.graphs.decode_state import DecodePlan
from ....primitives.graphs.graph import Graph
from ....primitives.graphs.idioms import IdiomKind
from ....primitives.ops.op_table import OPS, DecodeState, TimeDependence
from ....primitives.ops.value_types import Value

__all__ = ["PLUGIN_LAYERS", "STATEFUL_LAYERS", "ExportPlan", "Layer", "LayerKind", "Layout", "Step"]


class LayerKind(Enum):
    """The Flax module that a layer becomes. Each value is the noun in the names of such layers."""

    LINEAR = "projection"
    BRANCHED_LINEAR = "branched_projection"
    CONV = "causal_conv"
    DEPTHWISE = "conv"
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"
    RUNNING_SUM = "running_sum"
    RUNNING_PRODUCT = "running_product"
    LEAST_SQUARES = "least_squares"
    VECTOR = "vector"
    PLUGIN = "function"
    PLUGIN_STATEFUL = "stateful_function"


class Layout(Enum):
    """The order of a value's axes; branches are the parallel branches of the calls around the value."""

    ROWS = "[batch, length, *branches, width]"
    GRID = "[batch, *branches, length, keys]"


@dataclass(frozen=True, slots=True)
class Layer:
    """A Flax module, or (`VECTOR`) a learned vector.

    Attributes:
        kind: kind of module.
        nodes: nodes that the layer computes, in order; the value of the last node is the output of the layer.
        learned: nodes of the layer that have parameters.
        ops: ops of the learned nodes.
        scope: branch scopes around the parameters.
        source_scope: branch scopes around the input.
        source: kind and width of the input.
        target: kind and width of the output, in one branch.
        kernel: number of positions that the layer sees.
        op: op of a plugin, which the plugin's function computes; empty for other layers.
        constant: constant of the plugin's op; None if the op uses no constant.
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
    op: str = ""
    constant: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One value of the exported module: `node` computed from `inputs`.

    Attributes:
        node: index in the graph.
        inputs: nodes of other steps, or the input of the graph.
        layer: layer that computes the value; None if a function does.
        idiom: idiom that computes the value in one call; None for a layer or a single op.
        layout: layout of the value.
    """

    node: int
    inputs: tuple[int, ...]
    layer: Layer | None = None
    idiom: IdiomKind | None = None
    layout: Layout = Layout.ROWS


@dataclass(frozen=True)
class ExportPlan:
    """The steps of an exported module in the order of its code.

    Attributes:
        graph: the canonical program.
        steps: the steps, each after the steps that it reads.
        decoding: the state that decoding keeps between calls.
        adjustable: branch scopes for which the number of branches is an argument of the module.
        query_scales: products with a constant that is 1 / sqrt(head width) at the unit of the export.
    """

    graph: Graph
    steps: tuple[Step, ...]
    decoding: DecodePlan
    adjustable: frozenset[int]
    query_scales: frozenset[int]

    @cached_property
    def by_node(self) -> Mapping[int, Step]:
        """The steps by the node that they compute."""
        return {step.node: step for step in self.steps}

    @cached_property
    def readers(self) -> Mapping[int, tuple[int, ...]]:
        """The nodes of the steps that read each node, with repeats."""
        readers: dict[int, tuple[int, ...]] = {}
        for step in self.steps:
            for operand in step.inputs:
                readers[operand] = (*readers.get(operand, ()), step.node)
        return readers

    def is_read_once(self, node: int) -> bool:
        """Whether a single step reads the node, once."""
        return len(self.readers.get(node, ())) == 1

    def layout(self, node: int) -> Layout:
        """Return the layout of a step's value, or of the input."""
        return self.by_node[node].layout if node in self.by_node else Layout.ROWS

    def section(self, node: int) -> str:
        """Return the call in MAIN that computes a value; empty for the input and for values that MAIN computes."""
        if node not in self.by_node:
            return ""
        layer = self.by_node[node].layer
        labels = self.graph.nodes[layer.nodes[0] if layer else node].labels
        return labels[0] if len(labels) > 1 else ""

    def reads_all(self, step: Step, slot: int) -> bool:
        """Whether a step needs this operand at all positions in decoding, not only at the new positions."""
        is_recomputed = step.node in self.decoding.recomputed_scores
        op = self.graph.nodes[step.node].op
        return is_recomputed or (slot == 1 and op in OPS and OPS[op].decode_state is DecodeState.SECOND)

    def needs_start(self, step: Step) -> bool:
        """Whether a step depends on earlier positions, and therefore in decoding on the start of the new positions."""
        reads_all = any(self.reads_all(step, slot) for slot in range(len(step.inputs)))
        is_stateful = step.layer is not None and step.layer.kind in STATEFUL_LAYERS
        reads_recomputed = any(node in self.decoding.recomputed_scores for node in step.inputs)
        return reads_all or is_stateful or self.is_causal_mask(step) or reads_recomputed

    def reads_texts(self, step: Step) -> bool:
        """Whether a step needs to know where texts that are packed in one sequence begin."""
        nodes = step.layer.nodes if step.layer else (step.node,)
        takes = any(takes_texts(self.graph.nodes[node].op) for node in nodes)
        return not self.packing_fault and (takes or self.is_causal_mask(step))

    @cached_property
    def packing_fault(self) -> str:
        """The reason why the program cannot keep packed texts apart; empty if it can."""
        return packing_fault(self.graph)

    @cached_property
    def mask_fault(self) -> str:
        """The reason why the program cannot follow an arbitrary mask; empty if it can."""
        return mask_fault(self.graph)

    def is_causal_mask(self, step: Step) -> bool:
        """Whether a step is a causal mask, or a softmax with one."""
        is_mask = self.graph.nodes[step.node].op == "MASK" and step.idiom is None and step.layer is None
        return is_mask or step.idiom is IdiomKind.CAUSAL_SOFTMAX


STATEFUL_LAYERS = {
    LayerKind.DEPTHWISE: "CausalDepthwiseConv",
    LayerKind.CONV: "CausalConv",
    LayerKind.RUNNING_SUM: "RunningSum",
    LayerKind.RUNNING_PRODUCT: "RunningProduct",
    LayerKind.LEAST_SQUARES: "LeastSquares",
    LayerKind.PLUGIN_STATEFUL: "LearnedFunction",
}
"""Layers that keep state between decoding calls, with their classes in `runtime/`."""

PLUGIN_LAYERS = frozenset({LayerKind.PLUGIN, LayerKind.PLUGIN_STATEFUL})
"""Layers with a function that a plugin defines."""


def time_of(op: str) -> TimeDependence | None:
    """Return which positions an op depends on; None for the input and for joined branches."""
    return OPS[op].time_dependence if op in OPS else None
