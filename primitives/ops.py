"""The table of the 39 primitives (Primer, appendix A.1, Table 2), to which plugins add rows (`plugins.registry`).

Validation, mutation, compilation, canonical form, cost, export and documentation all read this table: adding a
primitive means adding a row. Where the paper does not define a detail, the summary says "our choice".

`Op.apply` is written once for NumPy (float64, the reference) and JAX: its first argument is the array namespace.
Values are `[..., length, width]`. A parameter has the same leading axes as the value, then its own shape.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from . import op_arithmetic as impl
from .errors import InvalidProgramError
from .value_types import SCALAR, SCORES, Kind, Value, activation

__all__ = [
    "OPS",
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

    __hash__ = object.__hash__  # faster than the hash of the name, and members are unique; identity asks for laws often


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


class PackedTexts(Enum):
    """What an op does at the border of two texts in one sequence (`primitives.packed_texts`)."""

    UNCHANGED = "nothing"
    WINDOW = "counts inputs of other texts as 0"
    RESTART = "starts again"
    MASK = "zeroes the scores of two texts"
    REFUSED = "is refused"


class WidthMatch(Enum):
    """Which operands must have equal widths; a learned CONV_1X1 repairs those that differ."""

    FREE = "none"
    UNLESS_SCALAR = "both operands, except that a scalar broadcasts"
    ALWAYS = "both operands, scalars included"


class Init(Enum):
    """Initial values of a parameter; `DEPTHWISE` is that of the T5 code of Primer."""

    FAN_IN = "normal, variance 1 / fan-in"
    ONES = "ones"
    ZEROS = "zeros"
    DEPTHWISE = "0.5 at the current position, 0.5 / kernel at each earlier one"


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
        name: name in the paper's Table 2.
        summary: one line of the op table.
        operands: number of operands, 1 or 2.
        result: kind and width of the output, given those of the operands (after repair) and the dimension.
        apply: `apply(xp, operands, parameters, constant, kernel) -> array`. If `packed_texts` is WINDOW, RESTART or
            MASK, it also takes `texts`, the number of the text of each row [batch, length]; MASK also takes `prefix`
            (see `primitives.prefix_mask`).
        source: template of the exported Python source; `{0}`, `{1}` are the operands, `{c}` the constant, `{p}` the
            parameter.
        flops: floating-point operations per position of the output (multiply and add count as two).
        parameters: learned arrays.
        uses_constant, uses_dimension: whether it reads that field of the instruction.
        kernel: positions a convolution sees.
        width_match: operands whose widths must agree.
        laws: algebraic laws.
        time_dependence: input positions that the output at one position depends on.
        decode_state: what decoding caches.
        before_start: cached value for positions before the first.
        family: family that guided mutations draw the op from.
        origin: `paper`, or the name of the plugin that adds the op.
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
        """What it does at the border of two texts; an op of a plugin that reads earlier positions cannot know."""
        if self.time_dependence is TimeDependence.MASKS:
            return PackedTexts.MASK
        if self.time_dependence is not TimeDependence.PAST:
            return PackedTexts.UNCHANGED
        if self.definition:
            return PackedTexts.REFUSED
        return PackedTexts.WINDOW if self.decode_state is DecodeState.INPUTS else PackedTexts.RESTART

    @property
    def ties_scores_to_length(self) -> bool:
        """Whether, applied to scores, it has a parameter per key or its result depends on the number of keys."""
        reduces = self.time_dependence is TimeDependence.REDUCES
        return bool(self.parameters) or (reduces and Law.ZERO_NEUTRAL not in self.laws)


# --- kinds and widths -------------------------------------------------------------------------------------------


def same_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of the first operand."""
    return values[0]


def broadcast_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of two operands, of which one may be a scalar."""
    first, second = values
    if first.kind is Kind.SCALAR:
        return second
    if second.kind is Kind.SCALAR or first.kind is second.kind:
        return first
    raise InvalidProgramError("kinds", f"its operands are {first} and {second}, which cannot be combined")


def _mat_mul(values: Sequence[Value], dimension: Fraction | None) -> Value:
    if values[0].kind is not Kind.SCORES:
        raise InvalidProgramError("kinds", f"its left operand must be scores, not {values[0]}")
    return values[1]


def mixed_shape(values: Sequence[Value], dimension: Fraction | None) -> Value:
    """Return the kind and width of an activation that scores mix."""
    if values[1].kind is Kind.SCORES:
        raise InvalidProgramError("kinds", "its right operand must be activations, not scores")
    return _mat_mul(values, dimension)


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


# --- rows -------------------------------------------------------------------------------------------------------


def _per_element(sizes: OpSizes) -> float:
    return float(sizes.out_size)


def _unary(name: str, summary: str, function: Callable[..., Array], source: str, *laws: Law) -> Op:
    return Op(name, summary, 1, same_shape, impl.unary(function), source, _per_element, laws=frozenset(laws),
              family="function")  # fmt: skip


def _binary(name: str, summary: str, function: Callable[..., Array], source: str, *laws: Law) -> Op:
    return Op(
        name, summary, 2, broadcast_shape, impl.binary(function), source, _per_element,
        width_match=WidthMatch.UNLESS_SCALAR, laws=frozenset(laws), family="arithmetic",
    )  # fmt: skip


def _with_constant(name: str, summary: str, function: Callable[..., Array], source: str) -> Op:
    return Op(name, summary, 1, same_shape, impl.with_constant(function), source, _per_element, uses_constant=True,
              family="constant")  # fmt: skip


def _reduction(name: str, noun: str, function: str, *laws: Law) -> Op:
    """A reduction that NumPy and JAX both name `function`."""
    return Op(
        name, f"{noun} over the last axis (our choice)", 1, reduce_shape,
        impl.unary(lambda xp, x: getattr(xp, function)(x, axis=-1, keepdims=True)),
        f"jnp.{function}({{0}}, axis=-1, keepdims=True)", lambda s: float(s.in_size),
        laws=frozenset({Law.KEEPS_SCALARS, *laws}), time_dependence=TimeDependence.REDUCES, family="reduction",
    )  # fmt: skip


def _cumulative(name: str, noun: str, function: str, combine: Callable[[Array, Array], Array], neutral: float) -> Op:
    """A running reduction that NumPy and JAX both name `function`; `combine` reduces two values."""
    return Op(
        name, f"running {noun} along the length", 1, same_shape,
        impl.running(function, combine, neutral), f"jnp.{function}({{0}}, axis=-2)", _per_element,
        time_dependence=TimeDependence.PAST, decode_state=DecodeState.OUTPUT, before_start=neutral,
        family="running",
    )  # fmt: skip


def _vector(name: str, summary: str, apply: Callable[..., Array], init: Init, parameter: str, source: str) -> Op:
    learned = (Parameter(parameter, ("in",), init),)
    return Op(name, summary, 1, same_shape, apply, source, _per_element, learned, family="learned vector")


def _convolution(kernel: int) -> Op:
    shape = ("in", "out") if kernel == 1 else ("kernel", "in", "out")
    summary = "dense layer, no bias" if kernel == 1 else f"causal convolution over {kernel} positions, no bias"
    return Op(
        f"CONV_{kernel}X1", summary, 1, dimension_shape, impl.dense if kernel == 1 else impl.convolution, "{p}({0})",
        lambda s: 2.0 * s.kernel * s.in_size * s.out_size, (Parameter("kernel", shape, Init.FAN_IN),),
        uses_dimension=True, kernel=kernel,
        time_dependence=TimeDependence.POINTWISE if kernel == 1 else TimeDependence.PAST,
        decode_state=DecodeState.NOTHING if kernel == 1 else DecodeState.INPUTS,
        family="dense" if kernel == 1 else "convolution",
    )  # fmt: skip


def _depthwise(kernel: int) -> Op:
    summary = f"causal depthwise convolution over {kernel} positions, as wide as its input (our choice)"
    return Op(
        f"DCONV_{kernel}X1", summary, 1, same_shape, impl.depthwise_convolution, "{p}({0})",
        lambda s: (2.0 * s.kernel - 1) * s.out_size, (Parameter("kernel", ("kernel", "in"), Init.DEPTHWISE),),
        kernel=kernel, time_dependence=TimeDependence.PAST, decode_state=DecodeState.INPUTS,
        family="depthwise convolution",
    )  # fmt: skip


_EVEN, _ODD, _IDEMPOTENT, _NON_NEGATIVE = Law.EVEN, Law.ODD, Law.IDEMPOTENT, Law.NON_NEGATIVE

_ROWS = (
    _binary("ADD", "x + y", lambda xp, x, y: x + y, "{0} + {1}", Law.COMMUTATIVE),
    _binary("DIFFERENCE", "x - y", lambda xp, x, y: x - y, "{0} - {1}"),
    _binary("DIVIDE", "x / y, with |y| clamped to at least 1e-6, keeping its sign (our choice)", impl.divide,
            "divide({0}, {1})"),
    _binary("MULTIPLY", "x * y", lambda xp, x, y: x * y, "{0} * {1}", Law.COMMUTATIVE),
    Op("MAT_MUL", "scores times values: mixes positions", 2, _mat_mul, impl.binary(lambda xp, x, y: xp.matmul(x, y)),
       "{0} @ {1}", lambda s: 2.0 * s.length * s.out_size, time_dependence=TimeDependence.MIXES,
       decode_state=DecodeState.SECOND, family="matrix product"),
    Op("T_MAT_MUL", "x times y transposed: the scores of every pair of positions", 2, pair_shape,
       impl.binary(lambda xp, x, y: xp.matmul(x, xp.swapaxes(y, -1, -2))), "{0} @ jnp.swapaxes({1}, -1, -2)",
       lambda s: 2.0 * s.in_size * s.length, width_match=WidthMatch.ALWAYS, time_dependence=TimeDependence.PAIRS,
       decode_state=DecodeState.SECOND, family="matrix product"),
    _unary("ABS_ROOT", "sqrt(|x|), with gradient 0 at 0 (our choice)", impl.abs_root, "abs_root({0})", _EVEN,
           _NON_NEGATIVE),
    _unary("SQUARE", "x * x", lambda xp, x: x * x, "jnp.square({0})", _EVEN, _NON_NEGATIVE),
    _unary("EXP", "exp(x)", lambda xp, x: xp.exp(x), "jnp.exp({0})", _NON_NEGATIVE),
    _unary("LOG", "log(max(|x|, 1e-6)) (the guard is our choice)", impl.log, "log_abs({0})", _EVEN),
    _unary("ABS", "|x|", lambda xp, x: xp.abs(x), "jnp.abs({0})", _EVEN, _IDEMPOTENT, _NON_NEGATIVE),
    _unary("RECIP", "1 / x, or 0 where x = 0", impl.reciprocal, "reciprocal({0})", _ODD),
    _unary("SIGN", "sign of x: -1, 0 or 1", lambda xp, x: xp.sign(x), "jnp.sign({0})", _ODD, _IDEMPOTENT),
    _unary("COS", "cos(x)", lambda xp, x: xp.cos(x), "jnp.cos({0})", _EVEN),
    _unary("SIN", "sin(x)", lambda xp, x: xp.sin(x), "jnp.sin({0})", _ODD),
    _unary("TANH", "tanh(x)", lambda xp, x: xp.tanh(x), "jnp.tanh({0})", _ODD),
    _unary("SIGMOID", "1 / (1 + exp(-x))", impl.sigmoid, "jax.nn.sigmoid({0})", _NON_NEGATIVE),
    _cumulative("CUM_PROD", "product", "cumprod", operator.mul, 1.0),
    _cumulative("CUM_SUM", "sum", "cumsum", operator.add, 0.0),
    _reduction("RED_MEAN", "mean", "mean"),
    _reduction("RED_SUM", "sum", "sum", Law.ZERO_NEUTRAL),
    _reduction("RED_MIN", "minimum", "min"),
    _reduction("RED_MAX", "maximum", "max"),
    _reduction("RED_PROD", "product", "prod"),
    _vector("SCALE", "x times a learned vector", impl.scale, Init.ONES, "scale", "{0} * {p}"),
    _vector("SHIFT", "x plus a learned vector", impl.shift, Init.ZEROS, "bias", "{0} + {p}"),
    _with_constant("C_MUL", "x times a constant", lambda xp, x, c: x * c, "{0} * {c}"),
    _with_constant("MAX", "max(x, constant)", lambda xp, x, c: xp.maximum(x, c), "jnp.maximum({0}, {c})"),
    _with_constant("MIN", "min(x, constant)", lambda xp, x, c: xp.minimum(x, c), "jnp.minimum({0}, {c})"),
    Op("MASK", "sets future keys of scores to 0, after EXP; leaves activations unchanged (our choice)", 1, same_shape,
       impl.mask, "jnp.tril({0})", _per_element, laws=frozenset({_IDEMPOTENT}),
       time_dependence=TimeDependence.MASKS, family="mask"),
    *(_convolution(kernel) for kernel in (1, 3, 7, 15, 31)),
    *(_depthwise(kernel) for kernel in (3, 7, 15, 31)),
)  # fmt: skip

OPS: dict[str, Op] = {op.name: op for op in _ROWS}
"""All primitives by name: those of the paper in the order of its table, then those of plugins."""
