"""Rows of the op table that the paper does not have. A search draws them only if `search.vocabulary` names them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..errors import InvalidProgramError
from .least_squares import least_squares, solve_flops
from .op import DecodeState, Init, Op, Parameter, TimeDependence, WidthMatch
from .value_types import Kind, Value

__all__ = ["EXTENDED_ROWS"]


def _solution_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of the right-hand side."""
    if any(value.kind is Kind.SCORES for value in values):
        raise InvalidProgramError("kinds", "its operands must be activations, not scores")
    return values[0]


EXTENDED_ROWS = (
    Op(
        "LEAST_SQUARES",
        "z that solves (sum of y y^T up to here + diag(softplus(ridge) + 0.25)) z = x: least squares over the past",
        2,
        _solution_shape,
        least_squares,
        "{p}({0}, {1})",
        lambda sizes: solve_flops(sizes.in_size, sizes.length),
        (Parameter("ridge", ("in",), Init.RIDGE),),
        width_match=WidthMatch.ALWAYS,
        time_dependence=TimeDependence.PAST,
        decode_state=DecodeState.MATRIX,
        family="least squares",
        origin="extended",
        reference="von Oswald et al. 2023, arXiv 2309.05858; ridge: MesaNet, arXiv 2506.05233",
    ),
)
"""The rows. A mesa layer is z = LEAST_SQUARES(x, y), followed by MAT_MUL(MASK(T_MAT_MUL(z, y)), values)."""
