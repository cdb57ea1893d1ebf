"""Names of the values, layers and submodules of an exported module.

A value is named by its role, by the call that returns it, or else by its op. Roles follow from the structure, so they
are also correct in mutated programs: T_MAT_MUL compares queries with keys, and MAT_MUL mixes values. A call
(`feed_forward`) has the name of its subprogram.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from ....primitives.graphs.graph import CONCAT, Graph, Node
from ....primitives.graphs.idioms import IdiomKind, centred
from ....primitives.ops.op_table import TimeDependence
from ....primitives.ops.value_types import Kind
from .steps import ExportPlan, Layer, LayerKind, Step, time_of

__all__ = ["Namer", "class_name", "identifier", "layer_names", "subprogram_name", "value_names"]

NOUNS = {
    "ADD": "combined", "DIFFERENCE": "difference", "DIVIDE": "ratio", "MULTIPLY": "product", "MAT_MUL": "mixed",
    "T_MAT_MUL": "scores", "ABS_ROOT": "root", "SQUARE": "squared", "EXP": "exponentials", "LOG": "logs",
    "ABS": "magnitudes", "RECIP": "reciprocals", "SIGN": "signs", "COS": "cosines", "SIN": "sines",
    "TANH": "squashed", "SIGMOID": "gate", "CUM_PROD": "running_product", "CUM_SUM": "running_sum",
    "RED_MEAN": "mean", "RED_SUM": "total", "RED_MIN": "minimum", "RED_MAX": "maximum",
    "RED_PROD": "total_product", "SCALE": "scaled", "SHIFT": "shifted", "C_MUL": "scaled", "MAX": "clipped",
    "MIN": "clipped", "MASK": "masked", CONCAT: "joined",
}  # fmt: skip
"""Names of values by the op that computes them, if no other rule applies."""

LAYER_RESULTS = {
    LayerKind.LINEAR: "projected", LayerKind.BRANCHED_LINEAR: "projected", LayerKind.CONV: "convolved",
    LayerKind.DEPTHWISE: "convolved", LayerKind.LAYER_NORM: "normed", LayerKind.RMS_NORM: "normed",
    LayerKind.RUNNING_SUM: "running_sum", LayerKind.RUNNING_PRODUCT: "running_product", LayerKind.VECTOR: "rescaled",
    LayerKind.LEAST_SQUARES: "solved",
    LayerKind.PLUGIN: "computed", LayerKind.PLUGIN_STATEFUL: "computed",
}  # fmt: skip

IDIOM_RESULTS = {
    IdiomKind.SOFTMAX: "weights", IdiomKind.CAUSAL_SOFTMAX: "weights", IdiomKind.SILU: "active",
    IdiomKind.GELU: "active",
}  # fmt: skip

ROLES = {"keys": "key", "queries": "query", "values": "value"}
"""Roles of values, and the prefix in the names of the layers that compute them."""


class Namer:
    """Maker of unique names: the second `mean` becomes `mean_2`, or `mean2` if the separator is empty."""

    def __init__(self, taken: Iterable[str], separator: str = "_"):
        self._taken = set(taken)
        self._separator = separator

    def unique(self, name: str) -> str:
        """Return `name`, with a number if it is taken."""
        candidate, number = name, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{name}{self._separator}{number}"
        self._taken.add(candidate)
        return candidate


def value_names(plan: ExportPlan) -> dict[int, str]:
    """Return a name for the value of each step; names may repeat."""
    roles = _roles(plan)
    return {
        step.node: roles.get(step.node) or _result_of_call(plan, step) or _by_structure(plan, step)
        for step in plan.steps
    }


def layer_names(plan: ExportPlan, steps: Iterable[Step], namer: Namer, own_call: str = "") -> dict[int, str]:
    """Return an attribute name for the layer of each step of a class, by its output node.

    `own_call` is the call that the class computes. Its name is left out of the attribute names.
    """
    prefixes: dict[int, str] = {}
    for node, role in _roles(plan).items():
        if role in ROLES:
            for layer_node in _chain(plan, node):
                prefixes.setdefault(layer_node, ROLES[role])
    return {
        step.node: namer.unique(_layer_name(plan, step.layer, prefixes.get(step.node), own_call))
        for step in steps
        if step.layer
    }


def class_name(label: str) -> str:
    """Return the name of the class of a submodule: `LayerNorm` for the call `layer_norm_2`."""
    return "".join(word.capitalize() for word in identifier(subprogram_name(label)).split("_"))


def subprogram_name(label: str) -> str:
    """Return the name of the subprogram that a call runs: `layer_norm` for the call `layer_norm_2`."""
    return re.sub(r"_\d+$", "", label)


LONGEST = 32
"""Largest number of characters that a name keeps of the text that it is made from."""


def identifier(text: str) -> str:
    """Return a lower-case Python identifier that resembles `text`.

    >>> identifier("Layer norm (2nd)"), identifier("3x"), identifier("class")
    ('layer_norm_2nd', 'value_3x', 'class_value')
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:LONGEST].strip("_")
    if not name:
        return "value"
    if name[0].isdigit():
        name = f"value_{name}"[:LONGEST]
    return f"{name}_value" if keyword.iskeyword(name) or keyword.issoftkeyword(name) else name


def _roles(plan: ExportPlan) -> dict[int, str]:
    nodes = plan.graph.nodes
    roles: dict[int, str] = {}

    def assign(node: int, role: str, reader: int) -> None:
        if nodes[node].op == "C_MUL" and plan.readers[node] == (reader,) and plan.is_read_once(nodes[node].inputs[0]):
            node = nodes[node].inputs[0]  # the unscaled queries get the name
        here = plan.section(node) == plan.section(reader) and node in plan.by_node
        if nodes[node].op == "LEAST_SQUARES":
            return  # its output is the solution, not a query
        if here and time_of(nodes[node].op) not in (TimeDependence.PAIRS, TimeDependence.MIXES):
            roles.setdefault(node, role)

    for step in plan.steps:
        if nodes[step.node].op == "LEAST_SQUARES":
            assign(step.inputs[0], "queries", step.node)
            assign(step.inputs[1], "keys", step.node)
    for time, slot, role in (
        (TimeDependence.PAIRS, 1, "keys"),
        (TimeDependence.PAIRS, 0, "queries"),
        (TimeDependence.MIXES, 1, "values"),
        (TimeDependence.MIXES, 0, "weights"),
    ):
        for step in plan.steps:
            if time_of(nodes[step.node].op) is time:
                assign(step.inputs[slot], role, step.node)
    return roles


def _chain(plan: ExportPlan, node: int) -> list[int]:
    """Return the layers that lead to a node through values with one reader each."""
    found = []
    while node in plan.by_node:
        step = plan.by_node[node]
        if step.layer:
            found.append(node)
        read_once = len(step.inputs) == 1 and plan.is_read_once(step.inputs[0])
        if not read_once and not _is_norm(plan, step):
            break
        node = step.inputs[0]
    return found


def _is_norm(plan: ExportPlan, step: Step) -> bool:
    """Whether a step divides x by a value that is computed from x alone, and nothing else reads x."""
    if plan.graph.nodes[step.node].op != "DIVIDE" or len(step.inputs) != 2 or len(plan.readers[step.inputs[0]]) != 2:
        return False
    node = step.inputs[1]
    while node in plan.by_node and len(plan.by_node[node].inputs) == 1 and plan.is_read_once(node):
        node = plan.by_node[node].inputs[0]
    return node == step.inputs[0]


def _result_of_call(plan: ExportPlan, step: Step) -> str | None:
    """Return the name of the outermost call that returns this value, which no other step of the call reads."""
    nodes, section = plan.graph.nodes, plan.section(step.node)
    labels = nodes[step.node].labels
    readers = plan.readers.get(step.node, ())
    # The input of an attention's output projection is not the result of the attention.
    is_inner = section and any(plan.section(reader) == section for reader in readers)
    for depth in range(2 if is_inner else 1, len(labels)):
        if all(nodes[reader].labels[:depth] != labels[:depth] for reader in readers):
            return identifier(subprogram_name(labels[depth - 1]))
    return None


def _by_structure(plan: ExportPlan, step: Step) -> str:
    nodes = plan.graph.nodes
    node = nodes[step.node]
    if step.layer:
        return LAYER_RESULTS[step.layer.kind]
    if step.idiom is not None:
        return IDIOM_RESULTS[step.idiom]
    if centred(plan.graph, step.node) is not None:
        return "centered"
    if node.op == "RED_MEAN" and _is_power(plan.graph, node.inputs[0]):
        return "variance" if _is_centered(plan.graph, node.inputs[0]) else "power"
    if node.op == "ABS_ROOT" and nodes[node.inputs[0]].op == "RED_MEAN":
        return "deviation" if _by_structure(plan, Step(node.inputs[0], ())) == "variance" else "root"
    if node.op == "MAX" and node.constant == 0:
        return "positive"
    if node.op == "CONCAT":
        return "joined" if node.joins is not None else "repeated"
    return NOUNS.get(node.op, "value")


def _is_power(graph: Graph, index: int) -> bool:
    node = graph.nodes[index]
    return node.op == "SQUARE" or (node.op == "MULTIPLY" and _is_centered(graph, index))


def _is_centered(graph: Graph, index: int) -> bool:
    """Whether a node multiplies x - mean(x) by itself or by x. The mean of either product is the variance of x."""
    factors = graph.nodes[index].inputs
    for factor in factors:
        if (x := centred(graph, factor)) is not None:
            return set(factors) <= {factor, x}
    return False


def _layer_name(plan: ExportPlan, layer: Layer, role: str | None, own_call: str) -> str:
    first = plan.graph.nodes[layer.nodes[0]]
    call = plan.section(layer.nodes[-1])
    prefix = "" if call in ("", own_call) else identifier(call)
    noun = layer.kind.value.removeprefix("branched_")
    if layer.kind is LayerKind.VECTOR:
        noun = "scale" if "SCALE" in layer.ops else "bias"
    if layer.op:
        noun = identifier(layer.op)
    if first.labels and first.labels[-1].endswith("_resize"):
        noun = "resize"
    if layer.kind in (LayerKind.LAYER_NORM, LayerKind.RMS_NORM):
        return prefix if prefix and "norm" in call else noun
    if role:
        return f"{role}_{noun}"
    if layer.kind in (LayerKind.LINEAR, LayerKind.BRANCHED_LINEAR) and noun != "resize":
        if _joins_attention(plan, first):
            return "output_projection"
        if call:
            noun = _direction(layer)
    return f"{prefix}_{noun}" if prefix else noun


def _direction(layer: Layer) -> str:
    source, target = layer.source.width, layer.target.width
    if layer.source.kind is not Kind.ACTIVATION or source is None or target is None or source == target:
        return "projection"
    return "up" if source < target else "down"


def _joins_attention(plan: ExportPlan, node: Node) -> bool:
    nodes = plan.graph.nodes
    joined = node if node.op == CONCAT else nodes[node.inputs[0]]
    return joined.op == CONCAT and nodes[joined.inputs[0]].op == "MAT_MUL"
