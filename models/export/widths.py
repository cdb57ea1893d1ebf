"""Widths of an exported module as expressions of its `width` argument, so that it can be built at other sizes."""

from __future__ import annotations

import math
from fractions import Fraction

from ...primitives.graph import Graph
from ...primitives.program import MODEL_WIDTH
from ...primitives.values import Kind, Value

__all__ = ["width_divisor", "width_expression"]


def width_expression(value: Value, branches: int = 1) -> str:
    """The size of a value's last axis in Python, `branches` of them side by side.

    Example:
        >>> from primer_search.primitives.values import activation
        >>> width_expression(activation(32)), width_expression(activation(1)), width_expression(activation(12))
        ('4 * width', 'width // 8', '3 * width // 2')
    """
    if value.width is None:
        size = "length" if value.kind is Kind.SCORES else "1"
        return size if branches == 1 else f"{branches} * {size}" if size == "length" else str(branches)
    ratio = value.width * branches / MODEL_WIDTH
    times = "width" if ratio.numerator == 1 else f"{ratio.numerator} * width"
    return times if ratio.denominator == 1 else f"{times} // {ratio.denominator}"


def width_divisor(graph: Graph) -> int:
    """The number that the model's width must be a multiple of for every width to be whole.

    Example:
        >>> from primer_search.primitives import build_graph
        >>> from primer_search.primitives.library import TRANSFORMER
        >>> width_divisor(build_graph(TRANSFORMER))
        8
    """
    widths = [node.value.width for node in graph.nodes if node.value.width is not None]
    return math.lcm(*(Fraction(width, MODEL_WIDTH).denominator for width in widths))
