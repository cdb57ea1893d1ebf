"""Expressions of an exported `__call__`: text that knows how tightly it binds and where its axes are.

How an op prints is the `source` of its row; this module adds layouts, branch axes and parentheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...primitives.ops import OPS
from .plan import ExportPlan, Layout, Step

__all__ = ["CALL", "INFIX", "Expression", "aligned", "deeper", "einsum_axes", "filled", "in_layout", "is_relu"]

INFIX = {"ADD": 1, "DIFFERENCE": 1, "MULTIPLY": 2, "C_MUL": 2}
"""How tightly the ops printed as operators bind; all else is a call, which binds tightest."""

CALL = 3


@dataclass(frozen=True, slots=True)
class Expression:
    """Text of a value.

    Attributes:
        text: Python.
        binding: how tightly its outermost operator binds.
        layout, scope: where its axes are, and the branches it is in.
        depth: of expressions inside expressions.
    """

    text: str
    binding: int
    layout: Layout
    scope: tuple[int, ...]
    depth: int = 0


def deeper(operands: Sequence[Expression]) -> int:
    """The depth of an expression with these operands."""
    return 1 + max((operand.depth for operand in operands), default=0)


def in_layout(value: Expression, layout: Layout) -> Expression:
    """The same value with its axes moved to where another layout has them."""
    if value.layout is layout:
        return value
    moved = replace(value, layout=layout)
    if not value.scope:
        return moved  # without branches the layouts are one
    axes = "1, -2" if layout is Layout.GRID else "-2, 1"
    return replace(moved, text=f"jnp.moveaxis({value.text}, {axes})", binding=CALL)


def aligned(value: Expression, scope: tuple[int, ...]) -> Expression:
    """Give a value from outside of branches the axes it lacks."""
    missing = len(scope) - len(value.scope)
    if not missing:
        return value
    before = (2 if value.layout is Layout.ROWS else 1) + len(value.scope)
    text = value.text if value.binding == CALL else f"({value.text})"
    axes = ", ".join([":"] * before + ["None"] * missing)
    return replace(value, text=f"{text}[{axes}]", binding=CALL, scope=scope)


def einsum_axes(layout: Layout, branches: int, row: str, last: str) -> str:
    """The letters of a value's axes: b is the batch, h and on are branches, then those given."""
    letters = "hgfe"[:branches]
    return f"b{row}{letters}{last}" if layout is Layout.ROWS else f"b{letters}{row}{last}"


def filled(op: str, operands: Sequence[Expression], constant: float | None) -> str:
    """The row's `source` with operands in parentheses where the operators round them bind more tightly."""
    template = OPS[op].source
    texts = []
    for slot, operand in enumerate(operands):
        before = template[: template.index(f"{{{slot}}}")]
        inside_call = before.count("(") > before.count(")")
        # An operand on the right binds to its own operator first: x - (y - z).
        needed = 0 if inside_call or op not in INFIX else INFIX[op] + (1 if slot else 0)
        texts.append(f"({operand.text})" if operand.binding < needed else operand.text)
    return template.format(*texts, c=repr(constant))


def is_relu(plan: ExportPlan, step: Step) -> bool:
    """Whether max(x, 0) may print as a ReLU: they differ in the gradient at 0 (0.5 against 0) alone.

    That is out of sight where the result is squared, and not met behind a dense layer, whose outputs are not exactly 0.
    """
    nodes = plan.graph.nodes
    if nodes[step.node].constant != 0:
        return False
    readers = plan.readers.get(step.node, ())
    squared = bool(readers) and all(nodes[reader].op == "SQUARE" for reader in readers)
    return squared or nodes[step.inputs[0]].op.startswith(("CONV_", "DCONV_", "SHIFT"))
