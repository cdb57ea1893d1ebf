"""Sizes of an exported module as expressions of its arguments, so that it can be built at other sizes.

The arguments are `width`, `heads` and `branches` if the program allows other numbers of branches, and `length` if the
program depends on the sequence length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ....primitives.graphs.graph import Graph
from ....primitives.ops.op_table import TimeDependence
from ....primitives.ops.value_types import MODEL_WIDTH, Kind, Value
from .steps import ExportPlan, time_of

__all__ = ["SizeExpressions"]


@dataclass(frozen=True, slots=True)
class SizeExpressions:
    """Sizes as expressions of the module's arguments.

    Attributes:
        graph: the canonical program.
        counts: name of the argument for the number of branches, by adjustable scope.
        prefix: prefix of each argument in an expression: `self.` if the arguments are fields.
    """

    graph: Graph
    counts: dict[int, str]
    prefix: str = ""

    @staticmethod
    def of(plan: ExportPlan, prefix: str = "") -> SizeExpressions:
        """Return the sizes of a program's module; branches that compare queries with keys are called heads."""
        attending = {
            scope for node in plan.graph.nodes if time_of(node.op) is TimeDependence.PAIRS for scope in node.scope
        }
        counts: dict[int, str] = {}
        for scope in sorted(plan.adjustable):
            noun = "heads" if scope in attending else "branches"
            number = sum(name.startswith(noun) for name in counts.values()) + 1
            counts[scope] = noun if number == 1 else f"{noun}_{number}"
        return SizeExpressions(plan.graph, counts, prefix)

    def count(self, scope: int) -> str:
        """Return the number of branches of a scope."""
        return f"{self.prefix}{self.counts[scope]}" if scope in self.counts else str(self.graph.scopes[scope])

    def last(self, value: Value, scope: tuple[int, ...]) -> str:
        """Return the size of a value's last axis in the branch scopes `scope`."""
        if value.width is None:
            return f"{self.prefix}length" if value.kind is Kind.SCORES else "1"
        ratio, counts = self._share(value.width, scope)
        width = f"{self.prefix}width" if ratio.numerator == 1 else f"{ratio.numerator} * {self.prefix}width"
        divisor = _product(ratio.denominator, counts)
        if not divisor:
            return width
        return f"{width} // ({divisor})" if " " in divisor else f"{width} // {divisor}"

    def features(self, value: Value, scope: tuple[int, ...]) -> list[str]:
        """Return the sizes of the axes after batch and length: branches, outermost first, and the last axis."""
        return [*(self.count(index) for index in scope), self.last(value, scope)]

    def divisors(self) -> list[str]:
        """Return the divisors that the width must have, as expressions."""
        needed: dict[tuple[str, ...], int] = {}
        for node in self.graph.nodes:
            if node.value.width is not None:
                ratio, counts = self._share(node.value.width, node.scope)
                needed[counts] = math.lcm(needed.get(counts, 1), ratio.denominator)
        texts = [
            _product(divisor, counts)
            for counts, divisor in sorted(needed.items())
            if not any(set(counts) < set(other) and needed[other] % divisor == 0 for other in needed)
        ]
        return [text for text in texts if text]

    def _share(self, width: Fraction, scope: tuple[int, ...]) -> tuple[Fraction, tuple[str, ...]]:
        """Return a width as a fraction of the model's width, and the arguments that divide this fraction."""
        adjustable = [index for index in scope if index in self.counts]
        branches = math.prod(self.graph.scopes[index] for index in adjustable)
        return width * branches / MODEL_WIDTH, tuple(self.count(index) for index in adjustable)


def _product(number: int, factors: tuple[str, ...]) -> str:
    return " * ".join([*([str(number)] if number > 1 else []), *factors])
