"""Submodules of an exported module: calls in MAIN that become separate classes.

A call becomes a submodule if it has one result, at most two inputs, at least three steps, and parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from .steps import ExportPlan, LayerKind, Step

__all__ = ["Submodule", "find_submodules"]

MIN_STEPS = 3
"""Smallest number of steps of a call that becomes a submodule."""

MAX_INPUTS = 2

UNLEARNED_LAYERS = frozenset({LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT})
"""Layers without parameters."""


@dataclass(frozen=True, slots=True)
class Submodule:
    """Steps that one class computes.

    Attributes:
        label: label of the call, as in the paths of parameters: `self_attention`, `layer_norm_2`.
        steps: steps of the call, in order.
        inputs: nodes outside the call that its steps read, in reading order.
        output: the only node of the call that is read outside.
    """

    label: str
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    output: int


def find_submodules(plan: ExportPlan) -> tuple[Step | Submodule, ...]:
    """Return the steps of the block in order, with each submodule at the position of its output."""
    calls: dict[str, list[Step]] = {}
    for step in plan.steps:
        if label := plan.section(step.node):
            calls.setdefault(label, []).append(step)
    submodules = {label: found for label, steps in calls.items() if (found := _submodule(plan, label, steps))}
    items: list[Step | Submodule] = []
    for step in plan.steps:
        submodule = submodules.get(plan.section(step.node))
        if submodule is None:
            items.append(step)
        elif step.node == submodule.output:
            items.append(submodule)
    return tuple(items)


def _submodule(plan: ExportPlan, label: str, steps: list[Step]) -> Submodule | None:
    """Return the steps of a call as a submodule, or None if they stay in the block."""
    own = {step.node for step in steps}
    last = len(plan.graph.nodes) - 1
    outputs = [node for node in own if node == last or not set(plan.readers.get(node, ())) <= own]
    inputs = tuple(dict.fromkeys(i for step in steps for i in step.inputs if i not in own))
    learns = any(step.layer is not None and step.layer.kind not in UNLEARNED_LAYERS for step in steps)
    if len(steps) < MIN_STEPS or len(outputs) != 1 or not learns or len(inputs) > MAX_INPUTS:
        return None
    crossing = (*inputs, outputs[0])
    if any(plan.graph.nodes[node].scope or node in plan.decoding.recomputed_scores for node in crossing):
        return None
    return Submodule(label, tuple(steps), inputs, outputs[0])
