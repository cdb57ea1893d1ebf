"""Which steps of a plan stand in a class of their own: a call of a subprogram in MAIN that survived as one piece.

    Plan --make_outline--> Outline: the block's steps, some of them calls of a submodule with steps of its own

A call survives if it still has one result and a few inputs, and is worth a class: it has a few steps, and learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .idioms import IdiomKind
from .plan import ExportPlan, LayerKind, Step

__all__ = ["CALLED_WITH_START", "Outline", "Part", "hides_future", "keeps", "make_outline", "needs_start"]

SMALLEST_PART = 3
"""Steps that a call must have left for a class of its own."""

MOST_INPUTS = 2

INTERNAL_LAYERS = frozenset({LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT})
"""Layers that learn nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """Steps in a class of their own.

    Attributes:
        label: of the call it was, as in the paths of parameters: `self_attention`, `layer_norm_2`.
        steps: in order.
        inputs: nodes from outside that it reads, in the order in which it reads them.
        output: the one node that is read outside.
    """

    label: str
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Outline:
    """The block's own steps and its parts, in order; a part stands where its output is computed.

    Attributes:
        plan: the whole plan.
        items: steps of the block itself, and parts.
    """

    plan: ExportPlan
    items: tuple[Step | Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The submodules, in order."""
        return tuple(item for item in self.items if isinstance(item, Part))


def make_outline(plan: ExportPlan) -> Outline:
    """Group the steps of calls that survived."""
    calls: dict[str, list[Step]] = {}
    for step in plan.steps:
        label = plan.section(step.node)
        if label:
            calls.setdefault(label, []).append(step)
    parts = {label: part for label, steps in calls.items() if (part := _part(plan, label, steps)) is not None}
    return Outline(plan, tuple(_items(plan, parts)))


def _items(plan: ExportPlan, parts: Mapping[str, Part]) -> list[Step | Part]:
    items: list[Step | Part] = []
    for step in plan.steps:
        part = parts.get(plan.section(step.node))
        if part is None:
            items.append(step)
        elif step.node == part.output:
            items.append(part)
    return items


def _part(plan: ExportPlan, label: str, steps: list[Step]) -> Part | None:
    """The call as a part, if it is one piece."""
    own = {step.node for step in steps}
    last = len(plan.graph.nodes) - 1
    outputs = [node for node in own if node == last or not set(plan.readers.get(node, ())) <= own]
    inputs = tuple(dict.fromkeys(i for step in steps for i in step.inputs if i not in own))
    learns = any(step.layer is not None and step.layer.kind not in INTERNAL_LAYERS for step in steps)
    if len(steps) < SMALLEST_PART or len(outputs) != 1 or not learns or len(inputs) > MOST_INPUTS:
        return None
    crossing = (*inputs, outputs[0])
    if any(plan.graph.nodes[node].scope or node in plan.decoding.recomputed_scores for node in crossing):
        return None
    return Part(label, tuple(steps), inputs, outputs[0])


CALLED_WITH_START = frozenset({LayerKind.CONV, LayerKind.DEPTHWISE, LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT})


"""Layers that keep something between calls that decode."""


def keeps(plan: ExportPlan, part: Part) -> bool:
    """Whether a part keeps anything between calls that decode."""
    return any(needs_start(plan, step) for step in part.steps)


def needs_start(plan: ExportPlan, step: Step) -> bool:
    """Whether what a step computes in decoding depends on earlier positions."""
    node = plan.graph.nodes[step.node]
    kept = any(plan.reads_all(step, slot) for slot in range(len(step.inputs)))
    runs = step.layer is not None and step.layer.kind in CALLED_WITH_START
    return kept or runs or hides_future(step, node.op) or any(i in plan.decoding.recomputed_scores for i in step.inputs)


def hides_future(step: Step, op: str) -> bool:
    """Whether a step is a mask, or a softmax with one."""
    return step.idiom is IdiomKind.CAUSAL_SOFTMAX or (op == "MASK" and step.idiom is None and step.layer is None)
