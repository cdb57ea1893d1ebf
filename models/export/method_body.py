"""The statements of an exported `__call__`: each step as an expression, small ones written inside their reader.

What decoding needs is written in: `start` is None, or the position of the first row of `x`. Values that later positions
read whole go through a `History`. The text is the same for both APIs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...primitives.graph import CONCAT
from ...primitives.ops import OPS
from .expressions import CALL, INFIX, Expression, aligned, deeper, einsum_axes, filled, in_layout, is_relu
from .formatting import LINE_LENGTH
from .idioms import IdiomKind
from .names import Namer
from .outline import CALLED_WITH_START, Part, hides_future, keeps
from .plan import ExportPlan, Layer, LayerKind, Layout, Step
from .sizes import SizeExpressions

__all__ = ["Body", "BodyWriter", "Statement"]

LONGEST_INLINE = 72
LONGEST_STATEMENT = 100
DEEPEST_INLINE = 3
OWN_LINE = frozenset({"queries", "keys", "values", "scores", "weights", "variance"})
"""Values whose names explain the code: they keep a line of their own."""

FUNCTIONS = {IdiomKind.SOFTMAX: "jax.nn.softmax", IdiomKind.SILU: "jax.nn.silu", IdiomKind.GELU: "jax.nn.gelu"}


@dataclass(frozen=True, slots=True)
class Statement:
    """`name = text`; `node` is the value it computes."""

    node: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A `__call__`: its statements, the last of which is the output, and the layers that only decoding needs.

    Attributes:
        statements: in order.
        caches: for each attribute that keeps a value of all positions, that value's node.
    """

    statements: tuple[Statement, ...]
    caches: Mapping[str, int]


class BodyWriter:
    """Writes the body of one class: walks its items; what may go inside its only reader waits in `pending` for it."""

    def __init__(
        self,
        plan: ExportPlan,
        items: Sequence[Step | Part],
        inputs: Mapping[int, str],
        names: Mapping[int, str],
        attributes: Mapping[int, str],
        sizes: SizeExpressions,
        namer: Namer,
        attribute_namer: Namer,
    ):
        """Prepare to write.

        Args:
            plan: the whole plan.
            items: what the class computes, in order.
            inputs: the names of the values it is given, by node.
            names: what to call each value; not yet unique.
            attributes: of layers and of parts, by the node of their output.
            sizes: the arguments sizes follow.
            namer: makes the names of variables unique.
            attribute_namer: makes those of attributes unique.
        """
        self.plan, self.items, self.names, self.attributes = plan, items, names, attributes
        self.sizes, self.namer, self.attribute_namer = sizes, namer, attribute_namer
        self.pending: dict[int, Expression] = {}
        self.known = {node: Expression(name, CALL, plan.layout(node), ()) for node, name in inputs.items()}
        self.complete: dict[int, Expression] = {}
        self.order = dict.fromkeys(inputs, 0)
        self.statements: list[Statement] = []
        self.caches: dict[str, int] = {}
        self.readers = self._readers()

    def write(self) -> Body:
        """The statements, and what is cached."""
        for number, item in enumerate(self.items):
            node = item.output if isinstance(item, Part) else item.node
            self.order[node] = number + 1
            expression = self._fitting(item)
            if self._is_read_complete_only(node):
                text = self._history(node, expression)
                expression = replace(expression, text=text, binding=CALL, layout=Layout.ROWS)
            self.pending[node] = expression
            if not self._may_wait(node, expression):
                self._state(node)
        self._output()
        return Body(tuple(self.statements), self.caches)

    def _output(self) -> None:
        """The last value is what is returned: a statement of its own, even if it is no more than a name."""
        last = self.items[-1].output if isinstance(self.items[-1], Part) else self.items[-1].node
        if not self.statements or self.statements[-1].node != last:
            expression = self._value(last)
            self.statements.append(Statement(last, "", expression.text))

    # --- which reads what -----------------------------------------------------------------------------------

    def _readers(self) -> dict[int, list[tuple[int, bool]]]:
        """For each node those that read it here, and whether at every position."""
        readers: dict[int, list[tuple[int, bool]]] = {}
        for item in self.items:
            if isinstance(item, Part):
                for node in item.inputs:
                    readers.setdefault(node, []).append((item.output, False))
                continue
            for slot, node in enumerate(item.inputs):
                readers.setdefault(node, []).append((item.node, self.plan.reads_all(item, slot)))
        return readers

    def _is_read_complete_only(self, node: int) -> bool:
        readers = self.readers.get(node, [])
        kept = node in self.plan.decoding.history
        return kept and bool(readers) and all(complete for _, complete in readers)

    def _may_wait(self, node: int, expression: Expression) -> bool:
        return (
            len(self.readers.get(node, [])) == 1
            and self.names[node] not in OWN_LINE
            and expression.depth < DEEPEST_INLINE
            and len(expression.text) <= LONGEST_INLINE
        )

    # --- values ---------------------------------------------------------------------------------------------

    def _state(self, node: int) -> Expression:
        """Give a pending expression a line and a name."""
        expression = self.pending.pop(node)
        name = self.namer.unique(self.names[node])
        self.statements.append(Statement(node, name, expression.text))
        self.known[node] = replace(expression, text=name, binding=CALL, depth=0)
        return self.known[node]

    def _value(self, node: int) -> Expression:
        return self.pending[node] if node in self.pending else self.known[node]

    def _named(self, node: int) -> Expression:
        """The value as a name, for expressions that say it twice."""
        return self._state(node) if node in self.pending else self.known[node]

    def _operand(self, step: Step, slot: int, named: bool = False) -> Expression:
        """An operand as the step reads it: at every position, or at those of this call."""
        node = step.inputs[slot]
        whole = node in self.plan.decoding.recomputed_scores
        if self.plan.reads_all(step, slot):
            return self._complete(node)
        value = self._named(node) if named or whole else self._value(node)
        if not whole:
            return value
        axis = 1 if value.layout is Layout.ROWS else -2
        return replace(value, text=f"rows({value.text}, {axis}, x.shape[1], start)")

    def _complete(self, node: int) -> Expression:
        given = self.order[node] == 0
        if node in self.plan.decoding.recomputed_scores or (self._is_read_complete_only(node) and not given):
            return self._value(node)
        if node not in self.complete:
            row = self._named(node)
            name = self.namer.unique(f"all_{row.text}")
            self.statements.append(Statement(node, name, self._history(node, row)))
            self.complete[node] = replace(row, text=name, layout=Layout.ROWS)
        return self.complete[node]

    def _history(self, node: int, row: Expression) -> str:
        """A value at all positions so far, from that at the new ones."""
        name = row.text if self.order[node] == 0 else self._kept_as(node)
        attribute = self.attribute_namer.unique(f"{name}_cache")
        self.caches[attribute] = node
        return f"self.{attribute}({in_layout(row, Layout.ROWS).text}, start)"

    def _kept_as(self, node: int) -> str:
        """What to call a value that is read at all positions: what products make of it, else its own name."""
        readers = [self.plan.by_node[reader] for reader, complete in self.readers[node] if complete]
        products = {self.plan.graph.nodes[step.node].op for step in readers if step.inputs[1:] == (node,)}
        roles = (role for op, role in (("T_MAT_MUL", "keys"), ("MAT_MUL", "values")) if op in products)
        return next(roles, self.names[node])

    # --- expressions ----------------------------------------------------------------------------------------

    def _fitting(self, item: Step | Part) -> Expression:
        """The item's expression, operands that make it too long stated first."""
        expression, room = self._expression(item), self._room(item.output if isinstance(item, Part) else item.node)
        while len(expression.text) > room:
            waiting = [node for node in item.inputs if node in self.pending]
            if not waiting:
                break
            self._state(max(waiting, key=lambda node: len(self.pending[node].text)))
            expression = self._expression(item)
        for node in item.inputs:  # what went inside waits no longer
            if node in self.pending:
                self.known[node] = self.pending.pop(node)
        return expression

    def _room(self, node: int) -> int:
        """How long a value's expression may be, so that its line is not too long."""
        around = f"        {self.names[node]}_2 = "
        if self._is_read_complete_only(node):
            around += f"self.{self._kept_as(node)}_cache_2(, start)"
        return min(LONGEST_STATEMENT, LINE_LENGTH - len(around))

    def _expression(self, item: Step | Part) -> Expression:
        if isinstance(item, Part):
            operands = [self._value(node) for node in item.inputs]
            arguments = [*(operand.text for operand in operands), *(["start"] if keeps(self.plan, item) else [])]
            text = f"self.{self.attributes[item.output]}({', '.join(arguments)})"
            return Expression(text, CALL, self.plan.layout(item.output), (), deeper(operands))
        if item.layer is not None:
            return self._layer_call(item, item.layer)
        node = self.plan.graph.nodes[item.node]
        if item.idiom is not None or node.op == "MASK":
            return (
                self._masked(item) if item.layout is Layout.GRID and hides_future(item, node.op) else self._idiom(item)
            )
        if node.op in ("T_MAT_MUL", "MAT_MUL"):
            return self._product(item)
        if node.op == CONCAT:
            return self._joined(item)
        return self._elementwise(item)

    def _layer_call(self, step: Step, layer: Layer) -> Expression:
        operand = self._operand(step, 0)
        if layer.kind is LayerKind.VECTOR:
            return self._vector(step, layer, operand)
        operand = in_layout(operand, Layout.ROWS)
        if layer.kind in (LayerKind.DEPTHWISE, LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT):
            counts = [self.sizes.count(scope) for scope in layer.scope[len(operand.scope) :]]
            if counts:
                operand = replace(operand, text=f"into_branches({', '.join([operand.text, *counts])})", binding=CALL)
        keeps = layer.kind in CALLED_WITH_START and step.node not in self.plan.decoding.recomputed_scores
        text = f"self.{self.attributes[step.node]}({operand.text}{', start' if keeps else ''})"
        return self._made(step, text, CALL, [operand])

    def _vector(self, step: Step, layer: Layer, operand: Expression) -> Expression:
        """`x * scale` or `x + bias`."""
        operand = aligned(operand, layer.scope)
        sign, binding = ("*", 2) if layer.ops == ("SCALE",) else ("+", 1)
        text = f"({operand.text})" if operand.binding < binding else operand.text
        axes = "[..., None, :]" if operand.layout is Layout.GRID else ""
        learned = f"self.{self.attributes[step.node]}{axes}.astype(x.dtype)"
        return self._made(step, f"{text} {sign} {learned}", binding, [operand])

    def _masked(self, step: Step) -> Expression:
        start = "" if step.node in self.plan.decoding.recomputed_scores else ", start"
        operand = in_layout(self._operand(step, 0, named=True), Layout.GRID)
        mask = f"causal_mask({operand.text}{start})"
        if step.idiom is IdiomKind.CAUSAL_SOFTMAX:
            return self._made(step, f"jax.nn.softmax({operand.text}, where={mask})", CALL, [operand])
        return self._made(step, f"jnp.where({mask}, {operand.text}, 0)", CALL, [operand])

    def _idiom(self, step: Step) -> Expression:
        operand = self._operand(step, 0)
        assert step.idiom is not None
        return self._made(step, f"{FUNCTIONS[step.idiom]}({operand.text})", CALL, [operand])

    def _product(self, step: Step) -> Expression:
        """Products of matrices as einsum: b is the batch, h and on are branches, q and k positions, d channels."""
        first, second = self._operand(step, 0), self._operand(step, 1)
        transposed = self.plan.graph.nodes[step.node].op == "T_MAT_MUL"
        left = einsum_axes(first.layout, len(first.scope), "q", "d" if transposed else "k")
        right_last = "d" if transposed or second.layout is Layout.ROWS else "j"
        right = einsum_axes(second.layout, len(second.scope), "k", right_last)
        scope = self.plan.graph.nodes[step.node].scope
        result = einsum_axes(step.layout, len(scope), "q", "k" if transposed else right_last)
        text = f'jnp.einsum("{left},{right}->{result}", {first.text}, {second.text})'
        return self._made(step, text, CALL, [first, second])

    def _joined(self, step: Step) -> Expression:
        node = self.plan.graph.nodes[step.node]
        assert node.joins is not None
        operand = in_layout(self._operand(step, 0), Layout.ROWS)
        if node.joins in operand.scope:
            return self._made(step, f"join_branches({operand.text})", CALL, [operand])
        text = f"jnp.concatenate([{operand.text}] * {self.sizes.count(node.joins)}, axis=-1)"
        return self._made(step, text, CALL, [operand])

    def _elementwise(self, step: Step) -> Expression:
        node = self.plan.graph.nodes[step.node]
        if step.node in self.plan.query_scales:
            named = self._operand(step, 0, named=True)
            return self._made(step, f"{named.text} * {named.text}.shape[-1] ** -0.5", INFIX["C_MUL"], [named])
        operands = [self._operand(step, slot) for slot in range(len(step.inputs))]
        operands = [aligned(in_layout(operand, step.layout), node.scope) for operand in operands]
        if node.op == "MAX" and is_relu(self.plan, step):
            return self._made(step, f"jax.nn.relu({operands[0].text})", CALL, operands)
        orders = [self.order[operand] for operand in step.inputs]
        if OPS[node.op].commutative and orders[0] > orders[1]:
            operands = operands[::-1]  # what was computed first is read first; floating-point sums allow it
        return self._made(step, filled(node.op, operands, node.constant), INFIX.get(node.op, CALL), operands)

    def _made(self, step: Step, text: str, binding: int, operands: Sequence[Expression]) -> Expression:
        return Expression(text, binding, step.layout, self.plan.graph.nodes[step.node].scope, deeper(operands))
