"""The statements of an exported `__call__`. A short expression is inlined into the step that reads its value.

The text is the same for both APIs. In decoding, the variable `start` is the position of the first row of `x`, else
None, and values that later positions read are stored in a `History`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...primitives.graphs.graph import CONCAT
from ...primitives.graphs.idioms import IdiomKind
from ...primitives.ops.op_table import OPS, TimeDependence
from .expressions import CALL, INFIX, Expression, aligned, einsum_axes, filled, in_layout, is_relu
from .formatting import LINE_LENGTH
from .plan.names import Namer
from .plan.sizes import SizeExpressions
from .plan.steps import PLUGIN_LAYERS, STATEFUL_LAYERS, ExportPlan, Layer, LayerKind, Layout, Step, time_of
from .plan.submodules import Submodule

__all__ = ["MethodBody", "MethodBodyWriter", "Statement"]

LONGEST_INLINE = 72
LONGEST_STATEMENT = 100
DEEPEST_INLINE = 3
OWN_LINE = frozenset({"queries", "keys", "values", "scores", "weights", "variance"})
"""Names of values that are never inlined, because they explain the code."""

FUNCTIONS = {IdiomKind.SOFTMAX: "jax.nn.softmax", IdiomKind.SILU: "jax.nn.silu", IdiomKind.GELU: "jax.nn.gelu"}


@dataclass(frozen=True, slots=True)
class Statement:
    """`name = text`, which computes the value of `node`."""

    node: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class MethodBody:
    """The body of a `__call__`.

    Attributes:
        statements: its statements in order; the last one is the output.
        caches: nodes with values that decoding keeps at all positions, by the attribute of their cache.
    """

    statements: tuple[Statement, ...]
    caches: Mapping[str, int]


class MethodBodyWriter:
    """Writer of the `__call__` of one class. `pending` contains expressions that may be inlined into their reader.

    Args:
        plan: plan of the whole file.
        items: steps and submodules that the class computes, in order.
        inputs: names of the input values, by node.
        names: names of the other values, by node; they may repeat.
        attributes: attributes of layers and submodules, by the node of their output.
        sizes: sizes as expressions of the module's arguments.
        namer: source of unique variables.
        attribute_namer: source of unique attributes.
    """

    def __init__(
        self,
        plan: ExportPlan,
        items: Sequence[Step | Submodule],
        inputs: Mapping[int, str],
        names: Mapping[int, str],
        attributes: Mapping[int, str],
        sizes: SizeExpressions,
        namer: Namer,
        attribute_namer: Namer,
    ):
        self.plan, self.items, self.names, self.attributes = plan, items, names, attributes
        self.sizes, self.namer, self.attribute_namer = sizes, namer, attribute_namer
        self.pending: dict[int, Expression] = {}
        self.known = {node: Expression(name, CALL, plan.layout(node), ()) for node, name in inputs.items()}
        self.histories: dict[int, Expression] = {}
        self.order = dict.fromkeys(inputs, 0)
        self.statements: list[Statement] = []
        self.caches: dict[str, int] = {}
        self.readers = self._readers()

    def write(self) -> MethodBody:
        """Return the statements and the caches of all items."""
        for number, item in enumerate(self.items):
            node = _output(item)
            self.order[node] = number + 1
            expression = self._shortened(item)
            if self._is_read_at_all_positions(node):
                expression = replace(expression.called(self._history(node, expression)), layout=Layout.ROWS)
            self.pending[node] = expression
            if not self._may_be_inlined(node, expression):
                self._write_statement(node)
        last = _output(self.items[-1])
        if not self.statements or self.statements[-1].node != last:
            self.statements.append(Statement(last, "", self._value(last).text))
        return MethodBody(tuple(self.statements), self.caches)

    # --- readers --------------------------------------------------------------------------------------------

    def _readers(self) -> dict[int, list[tuple[int, bool]]]:
        """Return the readers of each node in this class, and whether each reads it at all positions."""
        readers: dict[int, list[tuple[int, bool]]] = {}
        for item in self.items:
            for slot, node in enumerate(item.inputs):
                reads_all = isinstance(item, Step) and self.plan.reads_all(item, slot)
                readers.setdefault(node, []).append((_output(item), reads_all))
        return readers

    def _is_read_at_all_positions(self, node: int) -> bool:
        readers = self.readers.get(node, [])
        is_kept = node in self.plan.decoding.history
        return is_kept and bool(readers) and all(reads_all for _, reads_all in readers)

    def _may_be_inlined(self, node: int, expression: Expression) -> bool:
        return (
            len(self.readers.get(node, [])) == 1
            and self.names[node] not in OWN_LINE
            and expression.depth < DEEPEST_INLINE
            and len(expression.text) <= LONGEST_INLINE
        )

    # --- values ---------------------------------------------------------------------------------------------

    def _write_statement(self, node: int) -> Expression:
        """Write a statement for a pending expression, and return its variable."""
        expression = self.pending.pop(node)
        name = self.namer.unique(self.names[node])
        self.statements.append(Statement(node, name, expression.text))
        self.known[node] = replace(expression.called(name), depth=0)
        return self.known[node]

    def _value(self, node: int) -> Expression:
        return self.pending[node] if node in self.pending else self.known[node]

    def _named(self, node: int) -> Expression:
        """Return the value as a name, for expressions that contain it twice."""
        return self._write_statement(node) if node in self.pending else self.known[node]

    def _operand(self, step: Step, slot: int, named: bool = False) -> Expression:
        """Return an operand at the positions that the step reads: all positions, or those of this call."""
        node = step.inputs[slot]
        is_recomputed = node in self.plan.decoding.recomputed_scores
        if self.plan.reads_all(step, slot):
            return self._at_all_positions(node)
        value = self._named(node) if named or is_recomputed else self._value(node)
        if not is_recomputed:
            return value
        axis = 1 if value.layout is Layout.ROWS else -2
        return replace(value, text=f"rows({value.text}, {axis}, x.shape[1], start)")

    def _at_all_positions(self, node: int) -> Expression:
        """Return a value at all positions so far."""
        is_input = self.order[node] == 0
        if node in self.plan.decoding.recomputed_scores or (self._is_read_at_all_positions(node) and not is_input):
            return self._value(node)
        if node not in self.histories:
            new = self._named(node)
            name = self.namer.unique(f"all_{new.text}")
            self.statements.append(Statement(node, name, self._history(node, new)))
            self.histories[node] = replace(new, text=name, layout=Layout.ROWS)
        return self.histories[node]

    def _history(self, node: int, new: Expression) -> str:
        """Return the text of a value at all positions so far, and add its cache to `caches`."""
        name = new.text if self.order[node] == 0 else self._cache_name(node)
        attribute = self.attribute_namer.unique(f"{name}_cache")
        self.caches[attribute] = node
        return f"self.{attribute}({in_layout(new, Layout.ROWS).text}, start)"

    def _cache_name(self, node: int) -> str:
        """Return the role of a cached value in a matrix product, `keys` or `values`, or else the name of the value."""
        readers = [self.plan.by_node[reader] for reader, reads_all in self.readers[node] if reads_all]
        times = {time_of(self.plan.graph.nodes[step.node].op) for step in readers if step.inputs[1:] == (node,)}
        roles = ((TimeDependence.PAIRS, "keys"), (TimeDependence.MIXES, "values"))
        return next((role for time, role in roles if time in times), self.names[node])

    # --- expressions ----------------------------------------------------------------------------------------

    def _shortened(self, item: Step | Submodule) -> Expression:
        """Return the expression of an item; if it is too long, its longest operands get statements."""
        expression, longest = self._expression(item), self._longest(_output(item))
        while len(expression.text) > longest:
            waiting = [node for node in item.inputs if node in self.pending]
            if not waiting:
                break
            self._write_statement(max(waiting, key=lambda node: len(self.pending[node].text)))
            expression = self._expression(item)
        for node in item.inputs:  # the expression contains the operands that are still pending
            if node in self.pending:
                self.known[node] = self.pending.pop(node)
        return expression

    def _longest(self, node: int) -> int:
        """Return the largest length of an expression whose statement fits one line."""
        rest = f"        {self.names[node]}_2 = "
        if self._is_read_at_all_positions(node):
            rest += f"self.{self._cache_name(node)}_cache_2(, start)"
        return min(LONGEST_STATEMENT, LINE_LENGTH - len(rest))

    def _expression(self, item: Step | Submodule) -> Expression:
        if isinstance(item, Submodule):
            operands = [self._value(node) for node in item.inputs]
            arguments = [one.text for one in operands]
            arguments += ["start"] * any(map(self.plan.needs_start, item.steps))
            arguments += ["visibility"] * any(map(self.plan.reads_texts, item.steps))
            text = f"self.{self.attributes[item.output]}({', '.join(arguments)})"
            return Expression(text, CALL, self.plan.layout(item.output), (), _depth(operands))
        if item.layer is not None:
            return self._layer_call(item, item.layer)
        op = self.plan.graph.nodes[item.node].op
        if self.plan.is_causal_mask(item):
            return self._masked(item)
        if item.idiom is not None:
            operand = self._operand(item, 0)
            return self._made(item, f"{FUNCTIONS[item.idiom]}({operand.text})", [operand])
        if op in ("T_MAT_MUL", "MAT_MUL"):
            return self._product(item)
        if time_of(op) is TimeDependence.MIXES:
            return self._plugin_mixture(item)
        return self._joined(item) if op == CONCAT else self._elementwise(item)

    def _layer_call(self, step: Step, layer: Layer) -> Expression:
        if layer.kind in PLUGIN_LAYERS:
            return self._plugin_call(step, layer)
        if layer.kind is LayerKind.LEAST_SQUARES:
            operands = [in_layout(self._operand(step, slot), Layout.ROWS) for slot in (0, 1)]
            arguments = [self._in_branches(operand, layer).text for operand in operands]
            arguments += ["start", *["visibility"] * self.plan.reads_texts(step)]
            return self._made(step, f"self.{self.attributes[step.node]}({', '.join(arguments)})", operands)
        operand = self._operand(step, 0)
        if layer.kind is LayerKind.VECTOR:
            return self._vector(step, layer, operand)
        operand = in_layout(operand, Layout.ROWS)
        if layer.kind in (LayerKind.DEPTHWISE, LayerKind.RUNNING_SUM, LayerKind.RUNNING_PRODUCT):
            operand = self._in_branches(operand, layer)
        takes_start = layer.kind in STATEFUL_LAYERS and step.node not in self.plan.decoding.recomputed_scores
        arguments = [operand.text, *["start"] * takes_start]
        arguments += ["visibility"] * (takes_start and self.plan.reads_texts(step))
        text = f"self.{self.attributes[step.node]}({', '.join(arguments)})"
        return self._made(step, text, [operand])

    def _in_branches(self, operand: Expression, layer: Layer) -> Expression:
        """Return the operand with all branch axes of the layer."""
        counts = [self.sizes.count(scope) for scope in layer.scope[len(operand.scope) :]]
        return operand.called(f"into_branches({', '.join([operand.text, *counts])})") if counts else operand

    def _plugin_call(self, step: Step, layer: Layer) -> Expression:
        """Return the call of a plugin's op."""
        operands = [in_layout(self._operand(step, slot), Layout.ROWS) for slot in range(len(step.inputs))]
        if layer.kind is LayerKind.PLUGIN_STATEFUL:
            operands = [self._in_branches(operand, layer) for operand in operands]
        else:
            operands = [aligned(operand, layer.scope) for operand in operands]
        takes_start = layer.kind in STATEFUL_LAYERS and step.node not in self.plan.decoding.recomputed_scores
        arguments = [*(operand.text for operand in operands), *["start=start"] * takes_start]
        return self._made(step, f"self.{self.attributes[step.node]}({', '.join(arguments)})", operands)

    def _vector(self, step: Step, layer: Layer, operand: Expression) -> Expression:
        """Return `x * scale` or `x + bias`."""
        operand = aligned(operand, layer.scope)
        sign, precedence = ("*", 2) if layer.ops == ("SCALE",) else ("+", 1)
        axes = "[None, ..., None, :]" if operand.layout is Layout.GRID else "[None, None]"
        learned = f"self.{self.attributes[step.node]}{axes}.astype(x.dtype)"
        return self._made(step, f"{operand.as_operand(precedence)} {sign} {learned}", [operand], precedence)

    def _masked(self, step: Step) -> Expression:
        is_recomputed = step.node in self.plan.decoding.recomputed_scores
        operand = in_layout(self._operand(step, 0, named=True), Layout.GRID)
        arguments = [operand.text, *["start"] * (not is_recomputed)]
        arguments += [f"{'visibility=' * is_recomputed}visibility"] * self.plan.reads_texts(step)
        mask = f"causal_mask({', '.join(arguments)})"
        if step.idiom is IdiomKind.CAUSAL_SOFTMAX:
            return self._made(step, f"jax.nn.softmax({operand.text}, where={mask})", [operand])
        return self._made(step, f"jnp.where({mask}, {operand.text}, 0)", [operand])

    def _product(self, step: Step) -> Expression:
        """Return a matrix product as einsum: b is the batch, h to e are branches, q and k positions, d channels."""
        first, second = self._operand(step, 0), self._operand(step, 1)
        transposed = self.plan.graph.nodes[step.node].op == "T_MAT_MUL"
        left = einsum_axes(first.layout, len(first.scope), "q", "d" if transposed else "k")
        right_last = "d" if transposed or second.layout is Layout.ROWS else "j"
        right = einsum_axes(second.layout, len(second.scope), "k", right_last)
        scope = self.plan.graph.nodes[step.node].scope
        result = einsum_axes(step.layout, len(scope), "q", "k" if transposed else right_last)
        text = f'jnp.einsum("{left},{right}->{result}", {first.text}, {second.text})'
        return self._made(step, text, [first, second])

    def _plugin_mixture(self, step: Step) -> Expression:
        """Return the call of a plugin's function of scores and values, which takes branches before positions."""
        node = self.plan.graph.nodes[step.node]
        operands = [self._operand(step, slot) for slot in range(len(step.inputs))]
        operands = [aligned(in_layout(operand, Layout.GRID), node.scope) for operand in operands]
        text = filled(node.op, operands, node.constant)
        return in_layout(Expression(text, CALL, Layout.GRID, node.scope, _depth(operands)), Layout.ROWS)

    def _joined(self, step: Step) -> Expression:
        node = self.plan.graph.nodes[step.node]
        assert node.joins is not None
        operand = in_layout(self._operand(step, 0), Layout.ROWS)
        if node.joins in operand.scope:
            return self._made(step, f"join_branches({operand.text})", [operand])
        text = f"jnp.concatenate([{operand.text}] * {self.sizes.count(node.joins)}, axis=-1)"
        return self._made(step, text, [operand])

    def _elementwise(self, step: Step) -> Expression:
        node = self.plan.graph.nodes[step.node]
        if step.node in self.plan.query_scales:
            named = self._operand(step, 0, named=True)
            return self._made(step, f"{named.text} * {named.text}.shape[-1] ** -0.5", [named], INFIX["C_MUL"])
        operands = [self._operand(step, slot) for slot in range(len(step.inputs))]
        operands = [aligned(in_layout(operand, step.layout), node.scope) for operand in operands]
        if self.plan.reads_texts(step):  # a running op on scores, which are computed in all rows
            function = OPS[node.op].source.partition("(")[0]
            text = f"running_in_texts({operands[0].text}, {function}, -2, None, visibility)"
            return self._made(step, text, operands)
        if node.op == "MAX" and is_relu(self.plan, step):
            return self._made(step, f"jax.nn.relu({operands[0].text})", operands)
        orders = [self.order[operand] for operand in step.inputs]
        if OPS[node.op].commutative and orders[0] > orders[1]:
            operands = operands[::-1]  # earlier values first; the result is the same in floating point
        return self._made(step, filled(node.op, operands, node.constant), operands, INFIX.get(node.op, CALL))

    def _made(self, step: Step, text: str, operands: Sequence[Expression], precedence: int = CALL) -> Expression:
        return Expression(text, precedence, step.layout, self.plan.graph.nodes[step.node].scope, _depth(operands))


def _output(item: Step | Submodule) -> int:
    return item.output if isinstance(item, Submodule) else item.node


def _depth(operands: Sequence[Expression]) -> int:
    return 1 + max((operand.depth for operand in operands), default=0)
