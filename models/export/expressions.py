"""The statements of an exported `__call__`: each step as an expression, small ones written inside their reader.

How an op prints is the `source` of its row; this module adds parentheses, branch axes and calls of layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...primitives.graph import CONCAT, Graph
from ...primitives.ops import OPS
from .names import Namer
from .plan import Plan, Step

__all__ = ["Statement", "statements"]

INFIX = {"ADD": 1, "DIFFERENCE": 1, "MULTIPLY": 2, "C_MUL": 2, "MAT_MUL": 2, "T_MAT_MUL": 2}
"""How tightly the ops printed as operators bind; all else is a call, which binds tightest."""

CALL = 3
LONGEST_INLINE = 72
LONGEST_STATEMENT = 100
DEEPEST_INLINE = 3
OWN_LINE = frozenset({"queries", "keys", "values", "scores", "weights", "variance"})
"""Values whose names explain the code: they keep a line of their own."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`name = text`; `node` is the value it computes."""

    node: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class _Expression:
    text: str
    binding: int
    depth: int = 0


def statements(plan: Plan, names: dict[int, str], layers: dict[int, str], namer: Namer) -> list[Statement]:
    """The body of `__call__`, in order; the last statement is the block's output.

    Args:
        plan: the steps.
        names: what to call each step's value.
        layers: the attribute of each layer, by its output node.
        namer: makes the names that get a line of their own unique.
    """
    return _Writer(plan, names, layers, namer).write()


class _Writer:
    """Walks the steps; expressions that may go inside their only reader wait in `pending` until it comes."""

    def __init__(self, plan: Plan, names: dict[int, str], layers: dict[int, str], namer: Namer):
        self.plan, self.names, self.layers, self.namer = plan, names, layers, namer
        self.pending: dict[int, _Expression] = {}
        self.known: dict[int, _Expression] = {0: _Expression("x", CALL)}
        self.order = {0: 0} | {step.node: order + 1 for order, step in enumerate(plan.steps)}
        self.result: list[Statement] = []

    def write(self) -> list[Statement]:
        for step in self.plan.steps:
            expression = self._expression(step)
            while len(expression.text) > LONGEST_STATEMENT and any(i in self.pending for i in step.inputs):
                self._state(max((i for i in step.inputs if i in self.pending), key=lambda i: len(self.pending[i].text)))
                expression = self._expression(step)
            self.pending[step.node] = expression
            if not self._may_wait(step, expression):
                self._state(step.node)
        return self.result

    def _may_wait(self, step: Step, expression: _Expression) -> bool:
        return (
            len(self.plan.readers.get(step.node, ())) == 1
            and self.names[step.node] not in OWN_LINE
            and expression.depth < DEEPEST_INLINE
            and len(expression.text) <= LONGEST_INLINE
        )

    def _state(self, node: int) -> None:
        """Give a pending expression a line and a name."""
        name = self.namer.unique(self.names[node])
        self.result.append(Statement(node, name, self.pending.pop(node).text))
        self.known[node] = _Expression(name, CALL)

    def _expression(self, step: Step) -> _Expression:
        operands = [
            _aligned(self.plan.graph, step, i, self.pending[i] if i in self.pending else self.known[i])
            for i in step.inputs
        ]
        return _expression(self.plan, step, operands, self.layers, self.order)


def _expression(
    plan: Plan, step: Step, operands: list[_Expression], layers: dict[int, str], written: dict[int, int]
) -> _Expression:
    node = plan.graph.nodes[step.node]
    depth = 1 + max(operand.depth for operand in operands)
    if step.layer:
        call = f"self.{layers[step.node]}({operands[0].text})"
        if step.layer.folded:
            call = f"split_branches({call}, {', '.join(map(str, step.layer.branches))})"
        return _Expression(call, CALL, depth)
    if node.op == CONCAT:
        return _Expression(_join(plan.graph, step, operands[0].text), CALL, depth)
    if node.op == "MAX" and _is_relu(plan, step):
        return _Expression(f"jax.nn.relu({operands[0].text})", CALL, depth)
    if step.node in plan.softmaxes:
        shift = "below_visible_maximum" if plan.softmaxes[step.node] else "below_maximum"
        return _Expression(f"jnp.exp({shift}({operands[0].text}))", CALL, depth)
    if OPS[node.op].commutative and written[step.inputs[0]] > written[step.inputs[1]]:
        operands = operands[::-1]  # what was computed first is read first; floating-point sums allow it
    return _Expression(_fill(node.op, operands, node.constant), INFIX.get(node.op, CALL), depth)


def _fill(op: str, operands: list[_Expression], constant: float | None) -> str:
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


def _aligned(graph: Graph, step: Step, operand: int, expression: _Expression) -> _Expression:
    """Give a value from outside the branches the axes it lacks."""
    own, depth = len(graph.nodes[operand].scope), len(graph.nodes[step.node].scope)
    if graph.nodes[step.node].op == CONCAT or own >= depth or (step.layer and step.layer.folded):
        return expression
    text = f"({expression.text})" if expression.binding < CALL else expression.text
    axes = ", ".join([":"] * (1 + own) + ["None"] * (depth - own))
    return _Expression(f"{text}[{axes}]", CALL, expression.depth)


def _join(graph: Graph, step: Step, operand: str) -> str:
    node, inner = graph.nodes[step.node], graph.nodes[step.inputs[0]]
    assert node.joins is not None
    if node.joins in inner.scope:
        return f"join_branches({operand})"
    return f"jnp.concatenate([{operand}] * {graph.scopes[node.joins]}, axis=-1)"


def _is_relu(plan: Plan, step: Step) -> bool:
    """Whether max(x, 0) may print as a ReLU: they differ in the gradient at 0 (0.5 against 0) alone.

    That is out of sight where the result is squared, and not met behind a dense layer, whose outputs are not exactly 0.
    """
    nodes = plan.graph.nodes
    if nodes[step.node].constant != 0:
        return False
    readers = plan.readers.get(step.node, ())
    squared = bool(readers) and all(nodes[reader].op == "SQUARE" for reader in readers)
    return squared or nodes[step.inputs[0]].op.startswith(("CONV_", "DCONV_", "SHIFT"))
