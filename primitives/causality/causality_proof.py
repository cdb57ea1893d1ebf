"""Static proof of causality: an abstract interpretation of how values depend on positions.

An activation (or scalar) at position i is *causal* (depends on positions up to i), *length-dependent* (depends on the
sequence length as well) or *acausal* (may depend on later positions). Two facts describe scores: the reach of their
visible part, the entries (i, j) with j <= i, and the content of their hidden part, the entries above the diagonal. The
content is zero; or a constant that no input changes; or values that depend on positions up to max(i, j) only; or
anything.

EXP turns a hidden zero into a constant, which a product with values then sums over the future. So MASK must come after
EXP. The proof is conservative: it may reject a program whose leak cancels out, but never accepts one that leaks. It
treats zero times anything as zero. If the other factor overflows, the product is NaN, and no op turns NaN back into a
number: such a program is rejected as non-finite and cannot leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..errors import InvalidProgramError
from ..graphs.graph import CONCAT, INPUT, Graph, Node
from ..ops.op_table import OPS, Law, Op, TimeDependence
from ..ops.value_types import Kind

__all__ = ["Dependence", "Hidden", "Reach", "prove_causal", "time_dependence", "time_fault"]


class Reach(IntEnum):
    """Dependence of a value at position i; larger is worse."""

    CAUSAL = 0
    LENGTH_DEPENDENT = 1
    ACAUSAL = 2


class Hidden(IntEnum):
    """Content of scores above the diagonal; larger is worse."""

    ZERO = 0
    CONSTANT = 1
    PAIRWISE = 2
    ANYTHING = 3


@dataclass(frozen=True, slots=True)
class Dependence:
    """Facts about one value; `hidden` is None unless the value is scores."""

    reach: Reach
    hidden: Hidden | None = None


def prove_causal(graph: Graph) -> None:
    """Check that a program is provably causal; a length-dependent program may depend on the sequence length.

    Raises:
        InvalidProgramError: with reason `causality`; names the op that reads later positions.
    """
    facts = time_dependence(graph)
    allowed = Reach.LENGTH_DEPENDENT if graph.length_dependent else Reach.CAUSAL
    if facts[-1].reach <= allowed:
        return
    culprit = next(i for i, fact in enumerate(facts) if fact.reach > allowed and fact.hidden is None)
    node = graph.nodes[culprit]
    before = facts[node.inputs[0]]
    why = "" if before.hidden is None else f", because its scores hold {_NAMES[before.hidden]} above the diagonal"
    where = ".".join(node.labels) or node.op.lower()
    raise InvalidProgramError("causality", f"it sees the future: {node.op} at {where} reads later positions{why}")


def time_fault(graph: Graph) -> str:
    """Return the reason why a program is not causal, or depends on the sequence length; empty if neither."""
    facts = time_dependence(graph)
    reach = facts[-1].reach
    if reach is Reach.CAUSAL:
        return ""
    culprit = graph.nodes[next(index for index, fact in enumerate(facts) if fact.reach is reach)]
    depends = "sees the future" if reach is Reach.ACAUSAL else "depends on the sequence length"
    return f"it {depends}, because of {culprit.op} at {'.'.join(culprit.labels)}"


def time_dependence(graph: Graph) -> tuple[Dependence, ...]:
    """Return the facts about every node, in order."""
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
    if op.time_dependence is TimeDependence.REDUCES and node.value.kind is Kind.SCORES:
        hidden = max(fact.hidden or Hidden.ZERO for fact in inputs)  # every entry depends on all keys of its row
        return Dependence(max(_over_keys(op, hidden, reach), Reach.LENGTH_DEPENDENT), Hidden.ANYTHING)
    if op.time_dependence is TimeDependence.PAST and inputs[0].hidden is Hidden.ANYTHING:
        return Dependence(Reach.ACAUSAL, Hidden.ANYTHING)  # later rows read earlier rows, hidden parts included
    return Dependence(reach, _pointwise(op, node.constant, inputs))


def _over_keys(op: Op, hidden: Hidden | None, reach: Reach) -> Reach:
    """Return the reach of the result of a reduction (or a dense layer) over the keys of scores."""
    if hidden is Hidden.ZERO and Law.ZERO_NEUTRAL in op.laws:
        return reach
    if hidden in (Hidden.ZERO, Hidden.CONSTANT):
        return max(reach, Reach.LENGTH_DEPENDENT)  # the number of hidden entries depends on the length
    return Reach.ACAUSAL


def _mixed(scores: Dependence, values: Dependence, reach: Reach) -> Dependence:
    """Return the facts about a product of scores with values, or with other scores."""
    if scores.hidden is not Hidden.ZERO:
        return Dependence(Reach.ACAUSAL, None if values.hidden is None else Hidden.ANYTHING)
    if values.hidden is None:
        return Dependence(reach)
    if values.hidden is Hidden.ANYTHING:
        return Dependence(Reach.ACAUSAL, Hidden.ANYTHING)
    return Dependence(reach, Hidden.ZERO if values.hidden is Hidden.ZERO else Hidden.PAIRWISE)


def _pointwise(op: Op, constant: float | None, inputs: list[Dependence]) -> Hidden:
    """Return the content of the hidden part after an elementwise (or running) op; a scalar operand varies by row."""
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
    """Return whether zeros give zeros, for any parameters."""
    zeros = [np.zeros((1, 2, 2))] * op.operands
    sizes = {"in": 2, "out": 2, "kernel": op.kernel}
    learned = {
        parameter.name: np.full((1, *(sizes[symbol] for symbol in parameter.shape)), 0.7) for parameter in op.parameters
    }
    return not np.any(op.apply(np, zeros, learned, constant, op.kernel))


_NAMES = {
    Hidden.ZERO: "zeros",
    Hidden.CONSTANT: "constants other than zero",
    Hidden.PAIRWISE: "values of later positions",
    Hidden.ANYTHING: "anything",
}
