"""The classes of an exported file, before they are written in one API or the other: the block and its parts.

Parts come first, the block last; calls that are the same code share a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...primitives.graph import Graph
from ...primitives.ops import OPS
from ...primitives.parameters import ParameterSpec
from ...primitives.value_types import Kind
from .formatting import identifier
from .method_body import Body, BodyWriter
from .names import Namer, layer_names, unnumbered, value_names
from .outline import Part, make_outline, needs_start
from .plan import ExportPlan, Layer, LayerKind, Step
from .sizes import SizeExpressions

__all__ = ["ExportedClass", "ParameterPlacement", "make_classes", "placements"]

RESERVED_ATTRIBUTES = frozenset(
    {"dtype", "param_dtype", "width", "length", "heads", "branches", "position", "init_cache", "setup", "features"}
    | {"train", "eval", "sow", "perturb", "iter_modules", "iter_children", "set_attributes", "set_view"}
    | {"name", "parent", "scope", "variables", "variable", "param", "apply", "init", "bind", "unbind", "clone", "copy"}
    | {"tabulate", "lazy_init", "init_with_output", "is_initializing", "has_variable", "get_variable", "put_variable"}
    | {"is_mutable_collection", "has_rng", "make_rng", "module_paths", "path", "add_to_cache", "nowrap", "params"}
)
"""Attributes that Flax's modules have, or that exported ones do."""

INPUT_NAMES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class ExportedClass:
    """One class of the file.

    Attributes:
        name: of the class.
        part: the call it was; None for the block.
        items: steps, and in the block also parts.
        attributes: of layers and parts, by the node of their output.
        classes: of parts, by the node of their output.
        inputs: names of what `__call__` takes.
        body: of `__call__`.
        scopes: those of its scopes whose number of branches is an argument.
        tied: whether sizes in it depend on the sequence's length.
        decodes: whether decoding keeps anything in it.
    """

    name: str
    part: Part | None
    items: tuple[Step | Part, ...]
    attributes: Mapping[int, str]
    classes: Mapping[int, ExportedClass]
    inputs: tuple[str, ...]
    body: Body
    scopes: tuple[int, ...]
    tied: bool
    decodes: bool

    @property
    def layers(self) -> list[tuple[str, Layer]]:
        """Its layers and what they are called, in order."""
        steps = [item for item in self.items if isinstance(item, Step) and item.layer is not None]
        return [(self.attributes[step.node], step.layer) for step in steps if step.layer is not None]


def make_classes(
    plan: ExportPlan, name: str, taken: frozenset[str], sizes: SizeExpressions
) -> tuple[ExportedClass, ...]:
    """All classes, parts first, the block last.

    Args:
        plan: what the block consists of.
        name: of the block's class.
        taken: names that the file uses already.
        sizes: the arguments that sizes follow.
    """
    outline = make_outline(plan)
    context = _Context(plan, sizes, value_names(plan), taken)
    class_namer = Namer(taken | {name}, joined_by="")
    made: dict[tuple[object, ...], ExportedClass] = {}
    of_part: dict[int, ExportedClass] = {}
    for part in outline.parts:
        one = _class(context, "", part, part.steps, {})
        signature = _signature(plan, one)
        if signature not in made:
            made[signature] = replace(one, name=class_namer.unique(_class_name(part.label)))
        of_part[part.output] = made[signature]
    return (*made.values(), _class(context, name, None, outline.items, of_part))


@dataclass(frozen=True, slots=True)
class _Context:
    plan: ExportPlan
    sizes: SizeExpressions
    values: Mapping[int, str]
    taken: frozenset[str]


def _class(
    context: _Context,
    name: str,
    part: Part | None,
    items: Sequence[Step | Part],
    of_part: Mapping[int, ExportedClass],
) -> ExportedClass:
    plan, sizes = context.plan, context.sizes
    steps = [item for item in items if isinstance(item, Step)]
    parts = [item for item in items if isinstance(item, Part)]
    attribute_namer = Namer(RESERVED_ATTRIBUTES)
    attributes = {one.output: attribute_namer.unique(identifier(one.label)) for one in parts}
    attributes |= layer_names(plan, steps, attribute_namer, "" if part is None else part.label)
    inputs = dict(zip((0,) if part is None else part.inputs, INPUT_NAMES, strict=False))
    namer = Namer(context.taken | set(INPUT_NAMES))
    inside = [*steps, *(step for one in parts for step in one.steps)]
    return ExportedClass(
        name=name,
        part=part,
        items=tuple(items),
        attributes=attributes,
        classes=of_part,
        inputs=tuple(inputs.values()),
        body=BodyWriter(plan, items, inputs, context.values, attributes, sizes, namer, attribute_namer).write(),
        scopes=sizes.used_in(_scopes(plan, inside)),
        tied=_is_tied(plan.graph, inside),
        decodes=any(needs_start(plan, step) for step in inside),
    )


def _scopes(plan: ExportPlan, steps: Sequence[Step]) -> list[int]:
    nodes = [plan.graph.nodes[node] for step in steps for node in (step.node, *step.inputs)]
    return [scope for node in nodes for scope in node.scope]


def _is_tied(graph: Graph, steps: Sequence[Step]) -> bool:
    return any(
        graph.nodes[node].op in OPS
        and OPS[graph.nodes[node].op].parameters
        and graph.nodes[graph.nodes[node].inputs[0]].value.kind is Kind.SCORES
        for step in steps
        for node in ((step.layer.nodes if step.layer else ()) or (step.node,))
    )


def _class_name(label: str) -> str:
    return "".join(word.capitalize() for word in identifier(unnumbered(label)).split("_"))


def _signature(plan: ExportPlan, one: ExportedClass) -> tuple[object, ...]:
    """What two classes have in common if their code is the same, whatever they are called."""
    layers = [
        (name, layer.kind, layer.scope, layer.source_scope, layer.source, layer.target, layer.kernel, layer.ops)
        for name, layer in one.layers
    ]
    nodes = plan.graph.nodes
    caches = [(name, nodes[node].value, nodes[node].scope) for name, node in one.body.caches.items()]
    texts = tuple((statement.name, statement.text) for statement in one.body.statements)
    return (one.inputs, texts, tuple(layers), tuple(caches), one.scopes, one.tied)


# --- parameters -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterPlacement:
    """How a parameter of the compiled program is found in the exported module, in NNX and in Linen alike.

    Attributes:
        name: `ParameterSpec.name`.
        path: attributes that lead to it: of a part, of a layer, of the array.
        order: the axes of the compiled array in the order in which the module has them.
        split: sizes that the first axis is split into; empty where it is not.
    """

    name: str
    path: tuple[str, ...]
    order: tuple[int, ...]
    split: tuple[int, ...] = ()

    def to_module_layout(self, array: np.ndarray) -> np.ndarray:
        """A compiled parameter (or its gradient) in the shape the module holds it in."""
        array = np.transpose(np.asarray(array), self.order)
        return array.reshape(*self.split, *array.shape[1:]) if self.split else array


def placements(
    plan: ExportPlan, block: ExportedClass, specs: Sequence[ParameterSpec]
) -> tuple[ParameterPlacement, ...]:
    """Where each parameter of the compiled program lies in the exported module."""
    found: dict[int, tuple[tuple[str, ...], Layer]] = {}
    for item in block.items:
        if isinstance(item, Part):
            names = _own_names(block.classes[item.output], item)
            prefix, steps = (block.attributes[item.output],), item.steps
        else:
            names, prefix, steps = block.attributes, (), (item,)
        for step in steps:
            for node in step.layer.learned if step.layer else ():
                assert step.layer is not None
                op = plan.graph.nodes[node].op
                found[node] = (*prefix, *_path(step.layer, names[step.node], op)), step.layer
    return tuple(_placement(plan, spec, *found[spec.node]) for spec in specs)


def _own_names(made: ExportedClass, part: Part) -> dict[int, str]:
    """The attributes of a part's layers, in a class that may have been made of another call of the same code."""
    assert made.part is not None
    return {
        own.node: made.attributes[other.node]
        for own, other in zip(part.steps, made.part.steps, strict=True)
        if own.layer is not None
    }


def _path(layer: Layer, name: str, op: str) -> tuple[str, ...]:
    return (name,) if layer.kind is LayerKind.VECTOR else (name, OPS[op].parameters[0].name)


def _placement(plan: ExportPlan, spec: ParameterSpec, path: tuple[str, ...], layer: Layer) -> ParameterPlacement:
    axes, branches = tuple(range(len(spec.shape))), spec.branch_axes
    order, split = axes, ()
    if spec.key == "kernel" and layer.kind is LayerKind.LINEAR:
        order = (*axes[branches:-1], *axes[:branches], axes[-1])
        split = tuple(plan.graph.scopes[scope] for scope in layer.source_scope)
        split = (*split, -1) if split else ()
    elif spec.key == "kernel" and layer.kind is LayerKind.DEPTHWISE:
        order = (axes[-2], *axes[:branches], axes[-1])
    return ParameterPlacement(spec.name, path, order, split)
