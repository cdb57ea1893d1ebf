"""Causality proved: an abstract interpretation of the canonical graph over how values depend on positions.

An activation (or scalar) at position i is *causal* (depends on positions up to i), *length-dependent* (on the
sequence's length as well) or *acausal*. Scores carry two facts: the reach of their visible part, entries (i, j)
with j <= i, and what is in their hidden part above the diagonal: zero; a constant that no input changes; something
that depends on positions up to max(i, j) only; or anything.

EXP makes a constant of a hidden zero, which a product with values then sums over the future: MASK comes after EXP,
or the program is refused. The proof is conservative: it may refuse a program whose leak cancels out, and never
accepts one that leaks. It takes zero times anything for zero; where that is an overflow the product is NaN, which no op
makes a number of again, so that such a program fails as non-finite instead of seeing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .errors import InvalidProgramError
from .graph import CONCAT, INPUT, Graph, Node
from .ops import OPS, Law, Op, TimeDependence
from .value_types import Kind

__all__ = ["Dependence", "Hidden", "Reach", "prove_causal", "time_dependence"]


class Reach(IntEnum):
    """What a value at position i depends on; the larger the worse."""

    CAUSAL = 0
    LENGTH_DEPENDENT = 1
    ACAUSAL = 2


class Hidden(IntEnum):
    """What stands above the diagonal of scores; the larger the worse."""

    ZERO = 0
    CONSTANT = 1
    PAIRWISE = 2
    ANYTHING = 3


@dataclass(frozen=True, slots=True)
class Dependence:
    """The facts about one value: `hidden` is of scores only."""

    reach: Reach
    hidden: Hidden | None = None


def prove_causal(graph: Graph) -> None:
    """Refuse a program that cannot be proved causal (length-dependent, where it is tied to one length).

    Raises:
        InvalidProgramError: with reason `causality`; names the op that lets the future in.
    """
    facts = time_dependence(graph)
    allowed = Reach.LENGTH_DEPENDENT if graph.length_dependent else Reach.CAUSAL
    if facts[-1].reach <= allowed:
        return
    culprit = next(i for i, fact in enumerate(facts) if fact.reach > allowed and fact.hidden is None)
    node = graph.nodes[culprit]
    before = facts[node.inputs[0]]
    why = f", since its scores hold {_NAMES[before.hidden]} where the future is" if before.hidden is not None else ""
    where = ".".join(node.labels) or node.op.lower()
    raise InvalidProgramError("causality", f"it sees the future: {node.op} at {where} lets it in{why}")


def time_dependence(graph: Graph) -> tuple[Dependence, ...]:
    """The facts about every node, in order."""
    facts: list[Dependence] = []
    for node in graph.nodes:
        if node.op == INPUT:
            facts.append(Dependence(Reach.CAUSAL))
        elif node.op == CONCAT:
            facts.append(facts[node.inputs[0]])
        else:
            facts.append(_transfer(graph, node, [facts[i] for i in node.inputs]))
    return tuple(facts)


def _transfer(graph: Graph, node: Node, inputs: list[Dependence]) -> Dependence:
    op = OPS[node.op]
    reach = max(fact.reach for fact in inputs)
    if op.time_dependence is TimeDependence.PAIRS:
        return Dependence(reach, Hidden.ANYTHING if reach is Reach.ACAUSAL else Hidden.PAIRWISE)
    if op.time_dependence is TimeDependence.MIXES:
        return _mixed(inputs[0], inputs[1], reach)
    if all(fact.hidden is None for fact in inputs):
        return Dependence(reach)
    if op.ties_scores_to_length:
        reach = max(reach, Reach.LENGTH_DEPENDENT)
    if op.time_dependence is TimeDependence.MASKS:
        return Dependence(reach, Hidden.ZERO)
    if graph.nodes[node.inputs[0]].value.kind is Kind.SCORES and node.value.kind is not Kind.SCORES:
        return Dependence(_over_keys(op, inputs[0].hidden, reach))
    if op.time_dependence is TimeDependence.PAST and inputs[0].hidden is Hidden.ANYTHING:
        return Dependence(Reach.ACAUSAL, Hidden.ANYTHING)  # rows above reach below the diagonal
    return Dependence(reach, _pointwise(op, node.constant, inputs))


def _over_keys(op: Op, hidden: Hidden | None, reach: Reach) -> Reach:
    """Reach of a reduction (or a dense layer) over the keys of scores."""
    if hidden is Hidden.ZERO and Law.ZERO_NEUTRAL in op.laws:
        return reach
    if hidden in (Hidden.ZERO, Hidden.CONSTANT):
        return max(reach, Reach.LENGTH_DEPENDENT)  # how many hidden entries there are is what is left of the future
    return Reach.ACAUSAL


def _mixed(scores: Dependence, values: Dependence, reach: Reach) -> Dependence:
    """Facts about a product of scores with values, or with scores."""
    if scores.hidden is not Hidden.ZERO:
        return Dependence(Reach.ACAUSAL, None if values.hidden is None else Hidden.ANYTHING)
    if values.hidden is None:
        return Dependence(reach)
    if values.hidden is Hidden.ANYTHING:
        return Dependence(Reach.ACAUSAL, Hidden.ANYTHING)
    return Dependence(reach, Hidden.ZERO if values.hidden is Hidden.ZERO else Hidden.PAIRWISE)


def _pointwise(op: Op, constant: float | None, inputs: list[Dependence]) -> Hidden:
    """The hidden part of an elementwise (or running) op on scores; a scalar counts as one that varies by row."""
    varies = [
        fact.hidden
        if fact.hidden is not None
        else (Hidden.ANYTHING if fact.reach is Reach.ACAUSAL else Hidden.PAIRWISE)
        for fact in inputs
    ]
    if op.name == "MULTIPLY" and Hidden.ZERO in varies:
        return Hidden.ZERO
    if op.name == "DIVIDE" and varies[0] is Hidden.ZERO:
        return Hidden.ZERO
    if all(hidden is Hidden.ZERO for hidden in varies):
        return Hidden.ZERO if _keeps_zero(op, constant) else Hidden.CONSTANT
    return max(*varies, Hidden.CONSTANT)


def _keeps_zero(op: Op, constant: float | None) -> bool:
    """Whether zeros go to zeros, whatever the parameters."""
    zeros = [np.zeros((1, 2, 2))] * op.operands
    learned = {parameter.name: np.full((1, 2) if len(parameter.shape) == 1 else (1, op.kernel, 2), 0.7)
               for parameter in op.parameters}  # fmt: skip
    return not np.any(op.apply(np, zeros, learned, constant, op.kernel))


_NAMES = {
    Hidden.ZERO: "zeros",
    Hidden.CONSTANT: "constants other than zero",
    Hidden.PAIRWISE: "values of later positions",
    Hidden.ANYTHING: "anything",
}
