"""Algebraic rewrites of the canonical form: rows "pattern -> replacement", and rewrites that follow from laws of ops.

Patterns are Python expressions over primitives, with `x`, `y` for any value and `a`, `b` for constants. A rewrite
preserves the function (in exact arithmetic), the kind and the width of the value. Tests check each row on random
values.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import NamedTuple, Protocol

from ..ops.op_table import OPS, Law, TimeDependence
from ..ops.value_types import Kind, Value

__all__ = ["REWRITES", "NodeLike", "Rewrite", "Term", "simplify"]

Term = int | tuple[str, tuple["Term", ...], float | None]
"""Index of a node, or an op applied to terms, with its constant."""


class NodeLike(Protocol):
    """The fields of a node that patterns use."""

    @property
    def op(self) -> str: ...
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def constant(self) -> float | None: ...
    @property
    def value(self) -> Value: ...


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One row; `pattern` and `replacement` are expressions such as `C_MUL(C_MUL(x, a), b)`."""

    pattern: str
    replacement: str

    def parse(self) -> tuple[ast.Call, ast.expr]:
        """Return both sides as syntax trees."""
        pattern = ast.parse(self.pattern, mode="eval").body
        assert isinstance(pattern, ast.Call)
        return pattern, ast.parse(self.replacement, mode="eval").body


REWRITES = (
    Rewrite("MULTIPLY(x, x)", "SQUARE(x)"),
    Rewrite("ADD(x, x)", "C_MUL(x, 2.0)"),
    Rewrite("DIFFERENCE(x, x)", "C_MUL(x, 0.0)"),
    Rewrite("ADD(x, C_MUL(y, -1.0))", "DIFFERENCE(x, y)"),
    Rewrite("ADD(C_MUL(y, -1.0), x)", "DIFFERENCE(x, y)"),
    Rewrite("DIFFERENCE(x, C_MUL(y, -1.0))", "ADD(x, y)"),
    Rewrite("DIFFERENCE(ADD(x, y), y)", "x"),
    Rewrite("DIFFERENCE(ADD(x, y), x)", "y"),
    Rewrite("ADD(DIFFERENCE(x, y), y)", "x"),
    Rewrite("ADD(y, DIFFERENCE(x, y))", "x"),
    Rewrite("C_MUL(x, 1.0)", "x"),
    Rewrite("C_MUL(C_MUL(x, a), b)", "C_MUL(x, a * b)"),
    Rewrite("MAX(MAX(x, a), b)", "MAX(x, max(a, b))"),
    Rewrite("MIN(MIN(x, a), b)", "MIN(x, min(a, b))"),
    Rewrite("ABS_ROOT(SQUARE(x))", "ABS(x)"),
    Rewrite("SQUARE(ABS_ROOT(x))", "ABS(x)"),
    Rewrite("RECIP(RECIP(x))", "x"),
)
"""Identities of exact arithmetic, without those that follow from the laws of one op (see `Law`)."""


def simplify(op: str, inputs: Sequence[int], constant: float | None, nodes: Sequence[NodeLike]) -> Term | None:
    """Return a simpler term for `op(inputs)`, or None if no rewrite applies."""
    by_law = _by_law(op, inputs, constant, nodes)
    if by_law is not None:
        return by_law
    for row in _BY_OP.get(op, ()):
        bound: _Bound = {}
        if _matches(row.pattern, inputs, constant, nodes, bound):
            term = row.build(bound)
            if isinstance(term, int) or term[2] is None or math.isfinite(term[2]):
                return term
    return None


def _by_law(op: str, inputs: Sequence[int], constant: float | None, nodes: Sequence[NodeLike]) -> Term | None:
    operation, operand = OPS[op], nodes[inputs[0]]
    inner = OPS.get(operand.op)
    if operation.time_dependence is TimeDependence.MASKS and operand.value.kind is not Kind.SCORES:
        return inputs[0]  # MASK on an activation is the identity
    if Law.KEEPS_SCALARS in operation.laws and operand.value.kind is Kind.SCALAR:
        return inputs[0]  # a scalar is its own mean, sum, minimum, maximum and product
    if inner is None:
        return None
    if Law.IDEMPOTENT in operation.laws and operand.op == op:
        return inputs[0]  # f(f(x)) = f(x)
    if Law.NON_NEGATIVE in inner.laws and (op == "ABS" or (op == "MAX" and constant is not None and constant <= 0)):
        return inputs[0]  # |f| = f and max(f, c) = f for f >= 0 >= c
    if Law.EVEN in operation.laws and (operand.op == "ABS" or (operand.op == "C_MUL" and operand.constant == -1)):
        return (op, (operand.inputs[0],), constant)  # f(|x|) = f(-x) = f(x)
    return None


# --- matching ---------------------------------------------------------------------------------------------------

_Bound = dict[str, int | float]
"""Nodes and constants, by their name in the pattern."""


class _Pattern(NamedTuple):
    """An op applied to patterns or names of values, with its constant: a name, a number, or None."""

    op: str
    operands: tuple[_Pattern | str, ...]
    constant: str | float | None


class _Row(NamedTuple):
    pattern: _Pattern
    build: Callable[[_Bound], Term]


def _pattern(expression: ast.expr) -> _Pattern | str:
    if isinstance(expression, ast.Name):
        return expression.id
    assert isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name)
    op, count = expression.func.id, OPS[expression.func.id].operands
    operands = tuple(_pattern(argument) for argument in expression.args[:count])
    constants = [_name_or_number(argument) for argument in expression.args[count:]]
    return _Pattern(op, operands, constants[0] if constants else None)


def _name_or_number(expression: ast.expr) -> str | float:
    return expression.id if isinstance(expression, ast.Name) else float(ast.literal_eval(expression))


def _matches(
    pattern: _Pattern, inputs: Sequence[int], constant: float | None, nodes: Sequence[NodeLike], bound: _Bound
) -> bool:
    """Return whether a node of the pattern's op matches the pattern, and bind the names of the pattern."""
    for operand, index in zip(pattern.operands, inputs, strict=True):
        if isinstance(operand, str):
            if bound.setdefault(operand, index) != index:
                return False
        else:
            node = nodes[index]
            if node.op != operand.op or not _matches(operand, node.inputs, node.constant, nodes, bound):
                return False
    if pattern.constant is None:
        return True
    assert constant is not None
    if isinstance(pattern.constant, str):
        bound[pattern.constant] = constant
        return True
    return pattern.constant == constant


def _builder(expression: ast.expr) -> Callable[[_Bound], Term]:
    if isinstance(expression, ast.Name):
        name = expression.id
        return lambda bound: int(bound[name])
    assert isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name)
    op = expression.func.id
    count = OPS[op].operands
    operands = [_builder(argument) for argument in expression.args[:count]]
    constant = _constant(expression.args[count]) if len(expression.args) > count else None
    return lambda bound: (
        op,
        tuple(operand(bound) for operand in operands),
        None if constant is None else float(eval(constant, {"max": max, "min": min}, bound)),
    )


def _constant(expression: ast.expr) -> CodeType:
    return compile(ast.Expression(expression), "<rewrite>", "eval")


_BY_OP: dict[str, list[_Row]] = {}
for _rewrite in REWRITES:
    _left, _right = _rewrite.parse()
    _top = _pattern(_left)
    assert isinstance(_top, _Pattern)
    _BY_OP.setdefault(_top.op, []).append(_Row(_top, _builder(_right)))
