"""Rows of the op table (see `op_table`): the class `Op`, its fields, and the rules for kinds and widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from ..errors import InvalidProgramError
from .value_types import SCALAR, SCORES, Kind, Value, activation

__all__ = [
    "DecodeState",
    "Init",
    "Law",
    "Op",
    "OpSizes",
    "PackedTexts",
    "Parameter",
    "ResultRule",
    "TimeDependence",
    "WidthMatch",
    "broadcast_shape",
    "dimension_shape",
    "mixed_shape",
    "pair_shape",
    "product_shape",
    "reduce_shape",
    "same_shape",
]

Array = Any
ResultRule = Callable[[Sequence[Value], Fraction | None], Value]


class Law(Enum):
    """Algebraic laws of an op. The canonical form relies on them; tests check each against `Op.apply`."""

    COMMUTATIVE = "f(x, y) = f(y, x)"
    EVEN = "f(-x) = f(x)"
    ODD = "f(-x) = -f(x)"
    IDEMPOTENT = "f(f(x)) = f(x)"
    NON_NEGATIVE = "f(x) >= 0"
    ZERO_NEUTRAL = "zeros at the end of the last axis do not change f"
    KEEPS_SCALARS = "f(x) = x if the last axis has one entry"

    __hash__ = object.__hash__  # faster than hashing the name; every canonical graph looks up laws for each node


class TimeDependence(Enum):
    """Which input positions the output at one position depends on."""

    POINTWISE = "the same position"
    PAST = "the same and earlier positions"
    PAIRS = "positions i and j, for entry (i, j)"
    MIXES = "all positions that the scores give weight to"
    REDUCES = "the whole last axis (of scores: all keys)"
    MASKS = "the same entry; future keys become zero"


class DecodeState(Enum):
    """What decoding caches for an op on activations, so that new positions need no pass over earlier ones."""

    NOTHING = "nothing"
    INPUTS = "the last kernel - 1 inputs"
    OUTPUT = "the last output"
    SECOND = "the second operand at every position"
    MATRIX = "the sum of y y^T over earlier positions"


class PackedTexts(Enum):
    """What an op does at the border between two texts in one sequence (see `primitives.causality.packed_texts`)."""

    UNCHANGED = "nothing"
    WINDOW = "counts inputs of other texts as 0"
    RESTART = "starts again"
    MASK = "zeroes scores between texts"
    REFUSED = "is refused"


class WidthMatch(Enum):
    """Which operands must have equal widths; a learned CONV_1X1 resizes an operand if the widths differ."""

    FREE = "none"
    UNLESS_SCALAR = "both operands, except that a scalar broadcasts"
    ALWAYS = "both operands, scalars included"


class Init(Enum):
    """Initial values of a parameter. `DEPTHWISE` is from the T5 code of Primer, `RIDGE` from MesaNet."""

    FAN_IN = "normal, variance 1 / fan-in"
    ONES = "ones"
    ZEROS = "zeros"
    DEPTHWISE = "0.5 at the current position, 0.5 / kernel at each earlier one"
    RIDGE = "log(exp(0.75) - 1), so that softplus of it, plus 0.25, is 1"


@dataclass(frozen=True, slots=True)
class Parameter:
    """Learned array of an op; `shape` uses the symbols `in`, `out` (last-axis sizes) and `kernel`."""

    name: str
    shape: tuple[str, ...]
    init: Init


@dataclass(frozen=True, slots=True)
class OpSizes:
    """Arguments of `Op.flops`: last-axis sizes of operand and output, sequence length and kernel size."""

    in_size: int
    out_size: int
    length: int
    kernel: int


@dataclass(frozen=True, slots=True)
class Op:
    """One primitive.

    Attributes:
        name: name in programs; ops of the paper have the name in Table 2 of the paper.
        summary: description in one line, for tables.
        operands: number of operands, 1 or 2.
        result: function that returns the kind and width of the output. It takes the kinds and widths of the operands
            (after repair) and the dimension.
        apply: `apply(xp, operands, parameters, constant, kernel) -> array`. Some ops take further arguments by name:
            `texts`, the number of the text of each row [batch, length], if `packed_texts` is WINDOW, RESTART or MASK;
            `readable`, whether a row may read another [batch, length, length], if it is WINDOW or MASK; `prefix` if it
            is MASK (see `primitives.causality.prefix_mask`); and `before`, the sum over earlier positions, if
            `decode_state` is MATRIX (see `primitives.ops.least_squares`).
        source: template of the exported Python source; `{0}`, `{1}` are the operands, `{c}` the constant, `{p}` the
            parameter.
        flops: floating-point operations per position of the output (multiply and add count as two).
        parameters: learned arrays.
        uses_constant, uses_dimension: whether the op reads that field of the instruction.
        kernel: number of positions that a convolution reads.
        width_match: operands whose widths must agree.
        laws: algebraic laws.
        time_dependence: input positions that the output at one position depends on.
        decode_state: kind of state that decoding caches.
        before_start: cached value at the start of a sequence, for the positions before the first.
        family: group of similar ops. Guided mutations first draw a family, then an op of the family.
        origin: `paper`, `extended` (this package, not the paper), or the name of the plugin that adds the op.
        definition: Python function that `source` calls, copied into exported files; empty if JAX or `models.export`
            has it.
        reference: source of the definition.
    """

    name: str
    summary: str
    operands: int
    result: ResultRule
    apply: Callable[..., Array]
    source: str
    flops: Callable[[OpSizes], float]
    parameters: tuple[Parameter, ...] = ()
    uses_constant: bool = False
    uses_dimension: bool = False
    kernel: int = 1
    width_match: WidthMatch = WidthMatch.FREE
    laws: frozenset[Law] = frozenset()
    time_dependence: TimeDependence = TimeDependence.POINTWISE
    decode_state: DecodeState = DecodeState.NOTHING
    before_start: float = 0.0
    family: str = ""
    origin: str = "paper"
    definition: str = ""
    reference: str = "Primer, Table 2"

    @property
    def commutative(self) -> bool:
        """Whether the operands can be exchanged."""
        return Law.COMMUTATIVE in self.laws

    @property
    def packed_texts(self) -> PackedTexts:
        """What the op does at the border between two texts; plugin ops that read earlier positions are refused."""
        if self.time_dependence is TimeDependence.MASKS:
            return PackedTexts.MASK
        if self.time_dependence is not TimeDependence.PAST:
            return PackedTexts.UNCHANGED
        if self.definition:
            return PackedTexts.REFUSED
        return PackedTexts.WINDOW if self.decode_state is DecodeState.INPUTS else PackedTexts.RESTART

    @property
    def ties_scores_to_length(self) -> bool:
        """Whether the op on scores has a parameter for each key, or a result that depends on the number of keys."""
        reduces = self.time_dependence is TimeDependence.REDUCES
        return bool(self.parameters) or (reduces and Law.ZERO_NEUTRAL not in self.laws)


# --- kinds and widths -----------------------------------------------------------------------------------------------


def same_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of the first operand."""
    return values[0]


def broadcast_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of two operands combined elementwise; one of them may be a scalar."""
    first, second = values
    if first.kind is Kind.SCALAR:
        return second
    if second.kind is Kind.SCALAR or first.kind is second.kind:
        return first
    raise InvalidProgramError("kinds", f"its operands are {first} and {second}, which cannot be combined")


def product_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of the right operand, activations or scores that the scores on the left mix."""
    if values[0].kind is not Kind.SCORES:
        raise InvalidProgramError("kinds", f"its left operand must be scores, not {values[0]}")
    return values[1]


def mixed_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of the right operand, an activation that the scores on the left mix."""
    if values[1].kind is Kind.SCORES:
        raise InvalidProgramError("kinds", "its right operand must be activations, not scores")
    return product_shape(values, dimension)


def pair_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the scores of two activations."""
    if any(value.kind is Kind.SCORES for value in values):
        raise InvalidProgramError("kinds", "its operands must be activations, not scores")
    return SCORES


def reduce_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return a scalar."""
    return SCALAR


def dimension_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return an activation as wide as the dimension."""
    assert dimension is not None
    return activation(dimension)
