"""The 39 primitives, each a row of one table (Primer, appendix A.1, Table 2).

Validator, mutator, compiler, canonicaliser, cost model, exporter and documentation all read the row: adding a
primitive is adding a row. Where the paper is silent, the summary says "our choice".

`apply` is written once for NumPy (float64, the reference) and JAX: its first argument is the array namespace.
Arrays are `[..., length, width]`; a parameter has the leading axes of the arrays it meets, then its own shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

from . import op_arithmetic as k
from .errors import InvalidProgramError
from .value_types import SCALAR, SCORES, Kind, Value, activation

__all__ = ["OPS", "DecodeState", "Init", "Law", "Op", "OpSizes", "Parameter", "TimeDependence", "WidthMatch"]

Array = Any
ResultRule = Callable[[Sequence[Value], Fraction | None], Value]


class Law(Enum):
    """Algebraic laws a row claims; each is tested against `apply`, and the canonicaliser uses them."""

    COMMUTATIVE = "f(x, y) = f(y, x)"
    EVEN = "f(-x) = f(x)"
    ODD = "f(-x) = -f(x)"
    IDEMPOTENT = "f(f(x)) = f(x)"
    NON_NEGATIVE = "f(x) >= 0"
    ZERO_NEUTRAL = "zeros at the end of the last axis do not change f"


class TimeDependence(Enum):
    """How the output at a position depends on the inputs at other positions."""

    POINTWISE = "on the same position only"
    PAST = "on the same and earlier positions"
    PAIRS = "entry (i, j) on positions i and j"
    MIXES = "on every position the scores give weight to"
    REDUCES = "on the whole last axis: every key, where the input is scores"
    MASKS = "on itself; future keys become zero"


class DecodeState(Enum):
    """What decoding keeps of an op on activations, to compute new positions without the earlier ones."""

    NOTHING = "nothing"
    INPUTS = "its last kernel - 1 inputs"
    OUTPUT = "its last output"
    SECOND = "its second operand, of every position"


class WidthMatch(Enum):
    """Which widths must agree; a learned CONV_1X1 repairs those that don't."""

    FREE = "none"
    UNLESS_SCALAR = "both operands, except that a scalar broadcasts"
    ALWAYS = "both operands, scalars too"


class Init(Enum):
    """How a parameter starts: `FAN_IN` normal with variance 1/fan-in; `DEPTHWISE` as in the T5 code of Primer."""

    FAN_IN = "normal, variance 1 / fan-in"
    ONES = "ones"
    ZEROS = "zeros"
    DEPTHWISE = "0.5 at the current position, 0.5 / kernel at each earlier one"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A learned array of an op; `shape` is in the symbols `in`, `out` (last-axis sizes) and `kernel`."""

    name: str
    shape: tuple[str, ...]
    init: Init


@dataclass(frozen=True, slots=True)
class OpSizes:
    """What a row's FLOP count depends on: last-axis sizes of operand and output, and the sequence length."""

    in_size: int
    out_size: int
    length: int
    kernel: int


@dataclass(frozen=True, slots=True)
class Op:
    """One primitive.

    Attributes:
        name: as in the paper's Table 2.
        summary: one line for the reader of the table.
        operands: 1 or 2.
        result: kind and width of the output, from those of the operands (after repair) and the dimension.
        apply: `apply(xp, operands, parameters, constant, kernel) -> array`.
        source: how it prints in Python source: `{0}`, `{1}` are operands, `{c}` the constant.
        flops: floating-point operations for one position of the output (multiply and add count as two).
        parameters: learned arrays.
        uses_constant, uses_dimension: which attribute of the instruction it reads.
        kernel: positions a convolution sees.
        match: which operand widths must agree.
        laws: algebraic laws it obeys.
        time: how it moves information along the length.
        keep: what decoding keeps of it; `before_start` is what stands for positions before the first.
        reference: where it is defined.
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
    reference: str = "Primer, Table 2"

    @property
    def commutative(self) -> bool:
        """Whether the order of the operands does not matter."""
        return Law.COMMUTATIVE in self.laws

    @property
    def ties_scores_to_length(self) -> bool:
        """Whether, on scores, it has a parameter for each key or depends on how many keys there are."""
        return bool(self.parameters) or (
            self.time_dependence is TimeDependence.REDUCES and Law.ZERO_NEUTRAL not in self.laws
        )


# --- kinds and widths -------------------------------------------------------------------------------------------


def _same(values: Sequence[Value], dimension: Fraction | None) -> Value:
    return values[0]


def _broadcast(values: Sequence[Value], dimension: Fraction | None) -> Value:
    first, second = values
    if first.kind is Kind.SCALAR:
        return second
    if second.kind is Kind.SCALAR or first.kind is second.kind:
        return first
    raise InvalidProgramError("kinds", f"it meets {first} and {second}, which do not combine")


def _mat_mul(values: Sequence[Value], dimension: Fraction | None) -> Value:
    if values[0].kind is not Kind.SCORES:
        raise InvalidProgramError("kinds", f"its left operand must be scores, not {values[0]}")
    return values[1]


def _t_mat_mul(values: Sequence[Value], dimension: Fraction | None) -> Value:
    if any(value.kind is Kind.SCORES for value in values):
        raise InvalidProgramError("kinds", "its operands must be activations, not scores")
    return SCORES


def _reduce(values: Sequence[Value], dimension: Fraction | None) -> Value:
    return SCALAR


def _to_dimension(values: Sequence[Value], dimension: Fraction | None) -> Value:
    assert dimension is not None
    return activation(dimension)


# --- rows -------------------------------------------------------------------------------------------------------


def _per_element(sizes: OpSizes) -> float:
    return float(sizes.out_size)


def _unary(name: str, summary: str, function: Callable[..., Array], source: str, *laws: Law) -> Op:
    return Op(name, summary, 1, _same, k.unary(function), source, _per_element, laws=frozenset(laws))


def _binary(name: str, summary: str, function: Callable[..., Array], source: str, *laws: Law) -> Op:
    return Op(
        name, summary, 2, _broadcast, k.binary(function), source, _per_element,
        width_match=WidthMatch.UNLESS_SCALAR, laws=frozenset(laws),
    )  # fmt: skip


def _with_constant(name: str, summary: str, function: Callable[..., Array], source: str) -> Op:
    return Op(name, summary, 1, _same, k.with_constant(function), source, _per_element, uses_constant=True)


def _reduction(name: str, summary: str, function: Callable[..., Array], source: str, *laws: Law) -> Op:
    return Op(
        name, summary, 1, _reduce, k.unary(function), source, lambda s: float(s.in_size),
        laws=frozenset(laws), time_dependence=TimeDependence.REDUCES,
    )  # fmt: skip


def _cumulative(name: str, summary: str, function: Callable[..., Array], source: str, neutral: float) -> Op:
    return Op(
        name, summary, 1, _same, k.unary(function), source, _per_element,
        time_dependence=TimeDependence.PAST, decode_state=DecodeState.OUTPUT, before_start=neutral,
    )  # fmt: skip


def _vector(name: str, summary: str, apply: Callable[..., Array], init: Init, parameter: str, source: str) -> Op:
    learned = (Parameter(parameter, ("in",), init),)
    return Op(name, summary, 1, _same, apply, source, _per_element, learned)


def _convolution(kernel: int) -> Op:
    shape = ("in", "out") if kernel == 1 else ("kernel", "in", "out")
    summary = "dense layer, no bias" if kernel == 1 else f"causal convolution over {kernel} positions, no bias"
    return Op(
        f"CONV_{kernel}X1", summary, 1, _to_dimension, k.dense if kernel == 1 else k.convolution, "{p}({0})",
        lambda s: 2.0 * s.kernel * s.in_size * s.out_size, (Parameter("kernel", shape, Init.FAN_IN),),
        uses_dimension=True, kernel=kernel,
        time_dependence=TimeDependence.POINTWISE if kernel == 1 else TimeDependence.PAST,
        decode_state=DecodeState.NOTHING if kernel == 1 else DecodeState.INPUTS,
    )  # fmt: skip


def _depthwise(kernel: int) -> Op:
    summary = f"causal depthwise convolution over {kernel} positions; keeps its width (our choice)"
    return Op(
        f"DCONV_{kernel}X1", summary, 1, _same, k.depthwise_convolution, "{p}({0})",
        lambda s: (2.0 * s.kernel - 1) * s.out_size, (Parameter("kernel", ("kernel", "in"), Init.DEPTHWISE),),
        kernel=kernel, time_dependence=TimeDependence.PAST, decode_state=DecodeState.INPUTS,
    )  # fmt: skip


_EVEN, _ODD, _IDEMPOTENT, _NON_NEGATIVE = Law.EVEN, Law.ODD, Law.IDEMPOTENT, Law.NON_NEGATIVE

_ROWS = (
    _binary("ADD", "x + y", lambda xp, x, y: x + y, "{0} + {1}", Law.COMMUTATIVE),
    _binary("DIFFERENCE", "x - y", lambda xp, x, y: x - y, "{0} - {1}"),
    _binary("DIVIDE", "x / y, with |y| clamped to at least 1e-6, keeping its sign (our choice)", k.divide,
            "divide({0}, {1})"),
    _binary("MULTIPLY", "x * y", lambda xp, x, y: x * y, "{0} * {1}", Law.COMMUTATIVE),
    Op("MAT_MUL", "scores times values: mixes positions", 2, _mat_mul, k.binary(lambda xp, x, y: xp.matmul(x, y)),
       "{0} @ {1}", lambda s: 2.0 * s.length * s.out_size, time_dependence=TimeDependence.MIXES,
       decode_state=DecodeState.SECOND),
    Op("T_MAT_MUL", "x times y transposed: scores of every position against every position", 2, _t_mat_mul,
       k.binary(lambda xp, x, y: xp.matmul(x, xp.swapaxes(y, -1, -2))), "{0} @ jnp.swapaxes({1}, -1, -2)",
       lambda s: 2.0 * s.in_size * s.length, width_match=WidthMatch.ALWAYS, time_dependence=TimeDependence.PAIRS,
       decode_state=DecodeState.SECOND),
    _unary("ABS_ROOT", "sqrt(|x|), its gradient 0 at 0 (our choice)", k.abs_root, "abs_root({0})", _EVEN,
           _NON_NEGATIVE),
    _unary("SQUARE", "x * x", lambda xp, x: x * x, "jnp.square({0})", _EVEN, _NON_NEGATIVE),
    _unary("EXP", "exp(x)", lambda xp, x: xp.exp(x), "jnp.exp({0})", _NON_NEGATIVE),
    _unary("LOG", "log(max(|x|, 1e-6)) (the guard is our choice)", k.log, "log_abs({0})", _EVEN),
    _unary("ABS", "|x|", lambda xp, x: xp.abs(x), "jnp.abs({0})", _EVEN, _IDEMPOTENT, _NON_NEGATIVE),
    _unary("RECIP", "1 / x, and 0 at 0", k.reciprocal, "reciprocal({0})", _ODD),
    _unary("SIGN", "-1, 0 or 1", lambda xp, x: xp.sign(x), "jnp.sign({0})", _ODD, _IDEMPOTENT),
    _unary("COS", "cos(x)", lambda xp, x: xp.cos(x), "jnp.cos({0})", _EVEN),
    _unary("SIN", "sin(x)", lambda xp, x: xp.sin(x), "jnp.sin({0})", _ODD),
    _unary("TANH", "tanh(x)", lambda xp, x: xp.tanh(x), "jnp.tanh({0})", _ODD),
    _unary("SIGMOID", "1 / (1 + exp(-x))", k.sigmoid, "jax.nn.sigmoid({0})", _NON_NEGATIVE),
    _cumulative("CUM_PROD", "running product along the length", lambda xp, x: xp.cumprod(x, axis=-2),
                "jnp.cumprod({0}, axis=-2)", 1.0),
    _cumulative("CUM_SUM", "running sum along the length", lambda xp, x: xp.cumsum(x, axis=-2),
                "jnp.cumsum({0}, axis=-2)", 0.0),
    _reduction("RED_MEAN", "mean over the last axis (our choice)",
               lambda xp, x: xp.mean(x, axis=-1, keepdims=True), "jnp.mean({0}, axis=-1, keepdims=True)"),
    _reduction("RED_SUM", "sum over the last axis (our choice)",
               lambda xp, x: xp.sum(x, axis=-1, keepdims=True), "jnp.sum({0}, axis=-1, keepdims=True)",
               Law.ZERO_NEUTRAL),
    _reduction("RED_MIN", "minimum over the last axis (our choice)",
               lambda xp, x: xp.min(x, axis=-1, keepdims=True), "jnp.min({0}, axis=-1, keepdims=True)"),
    _reduction("RED_MAX", "maximum over the last axis (our choice)",
               lambda xp, x: xp.max(x, axis=-1, keepdims=True), "jnp.max({0}, axis=-1, keepdims=True)"),
    _reduction("RED_PROD", "product over the last axis (our choice)",
               lambda xp, x: xp.prod(x, axis=-1, keepdims=True), "jnp.prod({0}, axis=-1, keepdims=True)"),
    _vector("SCALE", "x times a learned vector", k.scale, Init.ONES, "scale", "{0} * {p}"),
    _vector("SHIFT", "x plus a learned vector", k.shift, Init.ZEROS, "bias", "{0} + {p}"),
    _with_constant("C_MUL", "x times a constant", lambda xp, x, c: x * c, "{0} * {c}"),
    _with_constant("MAX", "max(x, constant)", lambda xp, x, c: xp.maximum(x, c), "jnp.maximum({0}, {c})"),
    _with_constant("MIN", "min(x, constant)", lambda xp, x, c: xp.minimum(x, c), "jnp.minimum({0}, {c})"),
    Op("MASK", "zeroes the future keys of scores, after EXP; the identity on activations (our choice)", 1, _same,
       k.unary(lambda xp, x: xp.tril(x)), "jnp.tril({0})", _per_element, laws=frozenset({_IDEMPOTENT}),
       time_dependence=TimeDependence.MASKS),
    *(_convolution(kernel) for kernel in (1, 3, 7, 15, 31)),
    *(_depthwise(kernel) for kernel in (3, 7, 15, 31)),
)  # fmt: skip

OPS: dict[str, Op] = {op.name: op for op in _ROWS}
"""Every primitive by name, in the order of the paper's table."""
