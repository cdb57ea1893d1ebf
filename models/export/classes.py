"""The classes of an exported file, independent of the API: its submodules, then the block.

Calls with the same code share a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...primitives.graphs.graph import Graph
from ...primitives.graphs.parameters import ParameterSpec
from ...primitives.ops.op_table import OPS
from ...primitives.ops.value_types import Kind
from .method_body import MethodBody, MethodBodyWriter
from .plan.names import Namer, class_name, identifier, layer_names, value_names
from .plan.sizes import SizeExpressions
from .plan.steps import PLUGIN_LAYERS, ExportPlan, Layer, LayerKind, Step
from .plan.submodules import Submodule, find_submodules

__all__ = ["ExportedClass", "ParameterPlacement", "make_classes", "placements"]

RESERVED_ATTRIBUTES = frozenset(
    {"dtype", "param_dtype", "width", "length", "heads", "branches", "position", "init_cache", "setup", "features"}
    | {"train", "eval", "sow", "perturb", "iter_modules", "iter_children", "set_attributes", "set_view"}
    | {"name", "parent", "scope", "variables", "variable", "param", "apply", "init", "bind", "unbind", "clone", "copy"}
    | {"tabulate", "lazy_init", "init_with_output", "is_initializing", "has_variable", "get_variable", "put_variable"}
    | {"is_mutable_collection", "has_rng", "make_rng", "module_paths", "path", "add_to_cache", "nowrap", "params"}
)
"""Attributes that Flax's modules or exported modules already have."""

INPUT_NAMES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class ExportedClass:
    """One class of the file.

    Attributes:
        name: name of the class.
        submodule: steps of the class; None for the block.
        items: steps in order; in the block also submodules.
        attributes: attribute names of layers and submodules, by the node of their output.
        classes: classes of submodules, by the node of their output.
        inputs: names of the inputs of `__call__`.
        body: body of `__call__`.
        scopes: branch scopes for which the number of branches is an argument of the class.
        length_dependent: whether the shape of a parameter depends on the sequence length.
        is_stateful: whether the class keeps state in decoding.
        reads_texts: whether a step of the class needs to know where packed texts begin.
    """

    name: str
    submodule: Submodule | None
    items: tuple[Step | Submodule, ...]
    attributes: Mapping[int, str]
    classes: Mapping[int, ExportedClass]
    inputs: tuple[str, ...]
    body: MethodBody
    scopes: tuple[int, ...]
    length_dependent: bool
    is_stateful: bool
    reads_texts: bool

    @property
    def layers(self) -> list[tuple[str, Layer]]:
        """Layers of the class with their attribute names, in order."""
        steps = [item for item in self.items if isinstance(item, Step) and item.layer is not None]
        return [(self.attributes[step.node], step.layer) for step in steps if step.layer is not None]


def make_classes(
    plan: ExportPlan, name: str, taken: frozenset[str], sizes: SizeExpressions
) -> tuple[ExportedClass, ...]:
    """Return all classes, submodules first and the block `name` last. They avoid the names in `taken`."""
    items = find_submodules(plan)
    make = partial(_class, plan, sizes, value_names(plan), taken)
    class_namer = Namer(taken | {name}, separator="")
    made: dict[tuple[object, ...], ExportedClass] = {}
    by_output: dict[int, ExportedClass] = {}
    for submodule in items:
        if isinstance(submodule, Submodule):
            unnamed = make("", submodule, submodule.steps, {})
            signature = _signature(plan, unnamed)
            if signature not in made:
                made[signature] = replace(unnamed, name=class_namer.unique(class_name(submodule.label)))
            by_output[submodule.output] = made[signature]
    return (*made.values(), make(name, None, items, by_output))


def _class(
    plan: ExportPlan,
    sizes: SizeExpressions,
    names: Mapping[int, str],
    taken: frozenset[str],
    name: str,
    submodule: Submodule | None,
    items: Sequence[Step | Submodule],
    classes: Mapping[int, ExportedClass],
) -> ExportedClass:
    steps = [item for item in items if isinstance(item, Step)]
    submodules = [item for item in items if isinstance(item, Submodule)]
    attribute_namer = Namer(RESERVED_ATTRIBUTES)
    attributes = {one.output: attribute_namer.unique(identifier(one.label)) for one in submodules}
    attributes |= layer_names(plan, steps, attribute_namer, "" if submodule is None else submodule.label)
    inputs = dict(zip((0,) if submodule is None else submodule.inputs, INPUT_NAMES, strict=False))
    namer = Namer(taken | set(INPUT_NAMES))
    all_steps = [*steps, *(step for one in submodules for step in one.steps)]
    writer = MethodBodyWriter(plan, items, inputs, names, attributes, sizes, namer, attribute_namer)
    return ExportedClass(
        name=name,
        submodule=submodule,
        items=tuple(items),
        attributes=attributes,
        classes=classes,
        inputs=tuple(inputs.values()),
        body=writer.write(),
        scopes=tuple(sorted(_scopes(plan, all_steps) & sizes.counts.keys())),
        length_dependent=_is_length_dependent(plan.graph, all_steps),
        is_stateful=any(map(plan.needs_start, all_steps)),
        reads_texts=any(map(plan.reads_texts, all_steps)),
    )


def _scopes(plan: ExportPlan, steps: Sequence[Step]) -> set[int]:
    nodes = [plan.graph.nodes[node] for step in steps for node in (step.node, *step.inputs)]
    return {scope for node in nodes for scope in node.scope}


def _is_length_dependent(graph: Graph, steps: Sequence[Step]) -> bool:
    """Return whether the shape of a parameter of these steps contains the sequence length."""
    return any(
        graph.nodes[node].op in OPS
        and OPS[graph.nodes[node].op].parameters
        and graph.nodes[graph.nodes[node].inputs[0]].value.kind is Kind.SCORES
        for step in steps
        for node in ((step.layer.nodes if step.layer else ()) or (step.node,))
    )


def _signature(plan: ExportPlan, one: ExportedClass) -> tuple[object, ...]:
    """Return a value that is equal for two classes if their code is the same except for the class name."""
    layers = [
        (
            name,
            layer.kind,
            layer.scope,
            layer.source_scope,
            layer.source,
            layer.target,
            layer.kernel,
            layer.ops,
            layer.op,
            layer.constant,
        )
        for name, layer in one.layers
    ]
    nodes = plan.graph.nodes
    caches = [(name, nodes[node].value, nodes[node].scope) for name, node in one.body.caches.items()]
    texts = tuple((statement.name, statement.text) for statement in one.body.statements)
    return (one.inputs, texts, tuple(layers), tuple(caches), one.scopes, one.length_dependent)


# --- parameters -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterPlacement:
    """Place of a compiled program's parameter in the exported module, the same in NNX and in Linen.

    Attributes:
        name: name of the parameter in the compiled program (`ParameterSpec.name`).
        path: attributes that lead to the parameter: submodule, layer, array.
        order: axes of the compiled array in the order of the module.
        split: sizes that the first axis is split into; empty if it is not split.
    """

    name: str
    path: tuple[str, ...]
    order: tuple[int, ...]
    split: tuple[int, ...] = ()

    def to_module_layout(self, array: np.ndarray) -> np.ndarray:
        """Return a compiled parameter, or its gradient, in the shape that it has in the module."""
        array = np.transpose(np.asarray(array), self.order)
        return array.reshape(*self.split, *array.shape[1:]) if self.split else array


def placements(
    plan: ExportPlan, block: ExportedClass, specs: Sequence[ParameterSpec]
) -> tuple[ParameterPlacement, ...]:
    """Return the place of each parameter of the compiled program in the exported module."""
    found: dict[int, tuple[tuple[str, ...], Layer]] = {}
    for item in block.items:
        if isinstance(item, Submodule):
            names = _attributes(block.classes[item.output], item)
            prefix, steps = (block.attributes[item.output],), item.steps
        else:
            names, prefix, steps = block.attributes, (), (item,)
        for step in steps:
            if step.layer is not None:
                for node, op in zip(step.layer.learned, step.layer.ops, strict=True):
                    is_array = step.layer.kind is LayerKind.VECTOR or step.layer.kind in PLUGIN_LAYERS
                    array = () if is_array else (OPS[op].parameters[0].name,)
                    found[node] = (*prefix, names[step.node], *array), step.layer
    return tuple(_placement(plan, spec, *found[spec.node]) for spec in specs)


def _attributes(made: ExportedClass, submodule: Submodule) -> dict[int, str]:
    """Return the attribute names of a submodule's layers; its class may come from another call with the same code."""
    assert made.submodule is not None
    return {
        own.node: made.attributes[other.node]
        for own, other in zip(submodule.steps, made.submodule.steps, strict=True)
        if own.layer is not None
    }


def _placement(plan: ExportPlan, spec: ParameterSpec, path: tuple[str, ...], layer: Layer) -> ParameterPlacement:
    axes, branches = tuple(range(len(spec.shape))), spec.branch_axes
    order, split = axes, ()
    if spec.key == "kernel" and layer.kind is LayerKind.LINEAR:
        order = (*axes[branches:-1], *axes[:branches], axes[-1])
        split = tuple(plan.graph.scopes[scope] for scope in layer.source_scope)
        split = (*split, -1) if split else ()
    elif spec.key == "kernel" and layer.kind is LayerKind.DEPTHWISE:
        order = (axes[-2], *axes[:branches], axes[-1])
    if layer.kind in PLUGIN_LAYERS:
        path = (*path, spec.key)
    return ParameterPlacement(spec.name, path, order, split)
