"""Python expressions in an exported `__call__`: source text, operator precedence, layout of the value.

The op table contains the text of each op in the field `source`. This module adds layouts, branch axes and parentheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...primitives.ops.op_table import OPS
from .plan.steps import ExportPlan, Layout, Step

__all__ = ["CALL", "INFIX", "Expression", "aligned", "einsum_axes", "filled", "in_layout", "is_relu"]

INFIX = {"ADD": 1, "DIFFERENCE": 1, "MULTIPLY": 2, "C_MUL": 2}
"""Precedence of the ops that are printed as operators."""

CALL = 3
"""Precedence of names and calls, the highest."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A Python expression and the layout of its value.

    Attributes:
        text: Python source.
        precedence: precedence of the outermost operator.
        layout: layout of the value.
        scope: branch scopes around the value, outermost first.
        depth: nesting depth of the expression.
    """

    text: str
    precedence: int
    layout: Layout
    scope: tuple[int, ...]
    depth: int = 0

    def called(self, text: str) -> Expression:
        """Return an expression for the same value with another text, which must be a name or a call."""
        return replace(self, text=text, precedence=CALL)

    def as_operand(self, precedence: int) -> str:
        """Return the text, in parentheses if its precedence is lower than `precedence`."""
        return f"({self.text})" if self.precedence < precedence else self.text


def in_layout(value: Expression, layout: Layout) -> Expression:
    """Return the expression for the value in another layout."""
    if value.layout is layout:
        return value
    moved = replace(value, layout=layout)
    if not value.scope:
        return moved  # without branch axes, both layouts are the same
    axes = "1, -2" if layout is Layout.GRID else "-2, 1"
    return moved.called(f"jnp.moveaxis({value.text}, {axes})")


def aligned(value: Expression, scope: tuple[int, ...]) -> Expression:
    """Return the value with additional axes of size 1 for the branches in `scope` that it does not have."""
    missing = len(scope) - len(value.scope)
    if not missing:
        return value
    before = (2 if value.layout is Layout.ROWS else 1) + len(value.scope)
    axes = ", ".join([":"] * before + ["None"] * missing)
    return replace(value.called(f"{value.as_operand(CALL)}[{axes}]"), scope=scope)


def einsum_axes(layout: Layout, branches: int, row: str, last: str) -> str:
    """Return the einsum letters of a value's axes: b is the batch; h, g, f and e are branches."""
    letters = "hgfe"[:branches]
    return f"b{row}{letters}{last}" if layout is Layout.ROWS else f"b{letters}{row}{last}"


def filled(op: str, operands: Sequence[Expression], constant: float | None) -> str:
    """Return the `source` of an op with its operands, in parentheses where precedence requires them."""
    template = OPS[op].source
    texts = []
    for slot, operand in enumerate(operands):
        before = template[: template.index(f"{{{slot}}}")]
        inside_call = before.count("(") > before.count(")")
        # The right operand of an operator needs a higher precedence: x - (y - z).
        needed = 0 if inside_call or op not in INFIX else INFIX[op] + (1 if slot else 0)
        texts.append(operand.as_operand(needed))
    return template.format(*texts, c=repr(constant))


def is_relu(plan: ExportPlan, step: Step) -> bool:
    """Return whether a step max(x, 0) can be printed as a ReLU.

    Both differ only in the gradient at 0, which is 0.5 for max and 0 for ReLU. This does not matter if the result is
    squared, or if x is the output of a layer with parameters, which is almost never exactly 0.
    """
    nodes = plan.graph.nodes
    if nodes[step.node].constant != 0:
        return False
    readers = plan.readers.get(step.node, ())
    squared = bool(readers) and all(nodes[reader].op == "SQUARE" for reader in readers)
    return squared or nodes[step.inputs[0]].op.startswith(("CONV_", "DCONV_", "SHIFT"))
