"""Idioms: groups of primitives that one call computes, in a compiled block (`models.functional`) and in an export.

A reader recognises a layer norm, but not the six primitives that compute one. A group is found by its structure, not by
names in the program, and only if no other node reads the values inside it. The call gives the same result except for
rounding and for values near zero. A norm in a program divides by a deviation of at least 1e-6, whereas a norm of Flax
adds 1e-12 to the variance. A softmax is computed from shifted scores (see `softmax_patterns`). The verification of an
export checks the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from ..ops.value_types import Kind
from .graph import Graph, graph_readers
from .softmax_patterns import softmax_exponentials

__all__ = ["Idiom", "IdiomKind", "centred", "find_idioms"]


class IdiomKind(Enum):
    """A function or module that several primitives compute together."""

    LAYER_NORM = "layer norm (Ba et al. 2016, arXiv 1607.06450)"
    RMS_NORM = "RMS norm (Zhang and Sennrich 2019, arXiv 1910.07467)"
    SOFTMAX = "softmax"
    CAUSAL_SOFTMAX = "softmax over the keys that a query may see"
    SILU = "SiLU"
    GELU = "GELU, tanh approximation (Hendrycks and Gimpel 2016, arXiv 1606.08415)"


@dataclass(frozen=True, slots=True)
class Idiom:
    """A group of nodes that one call computes.

    Attributes:
        kind: kind of idiom.
        nodes: nodes of the group; the last one is its result.
        source: node that the group is computed from.
    """

    kind: IdiomKind
    nodes: tuple[int, ...]
    source: int


def find_idioms(graph: Graph) -> dict[int, Idiom]:
    """Return the idioms of a program, by the node that is the result of the idiom."""
    readers = graph_readers(graph)
    closed = (idiom for idiom in _candidates(graph) if _is_closed(idiom, readers))
    return {idiom.nodes[-1]: idiom for idiom in closed}


def _candidates(graph: Graph) -> Iterator[Idiom]:
    softmaxes = softmax_exponentials(graph)
    for index, node in enumerate(graph.nodes):
        found: Idiom | None = None
        if node.op == "DIVIDE":
            found = _softmax(graph, index, softmaxes) or _norm(graph, index)
        elif node.op == "MULTIPLY":
            found = _silu(graph, index)
        elif node.op == "ADD":
            found = _gelu(graph, index)
        if found is not None:
            yield found


def _is_closed(idiom: Idiom, readers: dict[int, list[int]]) -> bool:
    """Return whether all values of the group except its result are read only inside the group."""
    inside = set(idiom.nodes)
    return all(set(readers[index]) <= inside for index in idiom.nodes[:-1])


def _softmax(graph: Graph, divide: int, exponentials: Mapping[int, bool]) -> Idiom | None:
    weights, total = graph.nodes[divide].inputs
    masked = graph.nodes[weights].op == "MASK"
    exponential = graph.nodes[weights].inputs[0] if masked else weights
    if exponential not in exponentials:
        return None
    kind = IdiomKind.CAUSAL_SOFTMAX if masked else IdiomKind.SOFTMAX
    inside = (exponential, weights, total, divide) if masked else (exponential, total, divide)
    return Idiom(kind, inside, graph.nodes[exponential].inputs[0])


def _norm(graph: Graph, divide: int) -> Idiom | None:
    """Match x / sqrt(mean(x^2)), and the same of centred = x - mean(x).

    The variance, mean(centred^2), may also be written as mean(x * centred).
    """
    nodes = graph.nodes
    numerator, root = nodes[divide].inputs
    if nodes[numerator].value.kind is not Kind.ACTIVATION or nodes[root].op != "ABS_ROOT":
        return None
    mean_square = nodes[root].inputs[0]
    if nodes[mean_square].op != "RED_MEAN":
        return None
    square = nodes[mean_square].inputs[0]
    source = centred(graph, numerator)
    if source is not None and _is_square(graph, square, {numerator, source}, numerator):
        mean = nodes[numerator].inputs[1]
        return Idiom(IdiomKind.LAYER_NORM, (mean, numerator, square, mean_square, root, divide), source)
    if _is_square(graph, square, {numerator}, numerator):
        return Idiom(IdiomKind.RMS_NORM, (square, mean_square, root, divide), numerator)
    return None


def centred(graph: Graph, index: int) -> int | None:
    """Return x if the node is x - mean(x), else None."""
    node = graph.nodes[index]
    if node.op != "DIFFERENCE":
        return None
    x, mean = node.inputs
    return x if graph.nodes[mean].op == "RED_MEAN" and graph.nodes[mean].inputs[0] == x else None


def _is_square(graph: Graph, index: int, factors: set[int], needed: int) -> bool:
    """Return whether a node is the square of `needed`, or the product of `needed` and another of the `factors`."""
    node = graph.nodes[index]
    if node.op == "SQUARE":
        return node.inputs[0] == needed
    return node.op == "MULTIPLY" and set(node.inputs) <= factors and needed in node.inputs


def _silu(graph: Graph, product: int) -> Idiom | None:
    """Match x * sigmoid(x)."""
    for x, gate in (graph.nodes[product].inputs, graph.nodes[product].inputs[::-1]):
        if graph.nodes[gate].op == "SIGMOID" and graph.nodes[gate].inputs[0] == x:
            return Idiom(IdiomKind.SILU, (gate, product), x)
    return None


def _gelu(graph: Graph, total: int) -> Idiom | None:
    """Match x / 2 + x / 2 * tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)), operands of sums and products in any order."""
    for half, gated in (graph.nodes[total].inputs, graph.nodes[total].inputs[::-1]):
        x = _scaled(graph, half, 0.5)
        tanh = _other_operand(graph, gated, half)
        if x is None or tanh is None or graph.nodes[tanh].op != "TANH":
            continue
        argument = graph.nodes[tanh].inputs[0]
        polynomial = _scaled(graph, argument, math.sqrt(2 / math.pi))
        if polynomial is None or graph.nodes[polynomial].op != "ADD":
            continue
        scaled_cube = _other_operand(graph, polynomial, x)
        cube = None if scaled_cube is None else _scaled(graph, scaled_cube, 0.044715)
        square = None if cube is None else _other_operand(graph, cube, x)
        if scaled_cube is None or cube is None or square is None:
            continue
        if graph.nodes[cube].op == "MULTIPLY" and _is_square(graph, square, {x}, x):
            inside = sorted({half, square, cube, scaled_cube, polynomial, argument, tanh, gated})
            return Idiom(IdiomKind.GELU, (*inside, total), x)
    return None


def _scaled(graph: Graph, index: int, factor: float) -> int | None:
    """Return x if the node is factor * x."""
    node = graph.nodes[index]
    matches = node.op == "C_MUL" and node.constant is not None and math.isclose(node.constant, factor, rel_tol=1e-6)
    return node.inputs[0] if matches else None


def _other_operand(graph: Graph, index: int, operand: int) -> int | None:
    """Return the other operand of a sum or product that reads `operand`, or None if the node is neither."""
    node = graph.nodes[index]
    if node.op not in ("ADD", "MULTIPLY") or operand not in node.inputs:
        return None
    return node.inputs[1] if node.inputs[0] == operand else node.inputs[0]
