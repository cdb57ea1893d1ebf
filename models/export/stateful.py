"""Which steps of an exported block keep something between calls that decode, or look at where they are."""

from __future__ import annotations

from .idioms import IdiomKind
from .outline import Part
from .plan import LayerKind, Plan, Step

__all__ = ["CALLED_WITH_START", "hides_future", "keeps", "needs_start"]

CALLED_WITH_START = frozenset({LayerKind.CONV, LayerKind.DEPTHWISE, LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT})
"""Layers that keep something between calls that decode."""


def keeps(plan: Plan, part: Part) -> bool:
    """Whether a part keeps anything between calls that decode."""
    return any(needs_start(plan, step) for step in part.steps)


def needs_start(plan: Plan, step: Step) -> bool:
    """Whether what a step computes in decoding depends on earlier positions."""
    node = plan.graph.nodes[step.node]
    kept = any(plan.reads_all(step, slot) for slot in range(len(step.inputs)))
    runs = step.layer is not None and step.layer.kind in CALLED_WITH_START
    return kept or runs or hides_future(step, node.op) or any(i in plan.decoding.whole for i in step.inputs)


def hides_future(step: Step, op: str) -> bool:
    """Whether a step is a mask, or a softmax with one."""
    return step.idiom is IdiomKind.CAUSAL_SOFTMAX or (op == "MASK" and step.idiom is None and step.layer is None)
