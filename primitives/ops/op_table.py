"""The op table: the 39 primitives of the paper and the primitives of `extended_ops`. Plugins add rows.

The paper is Primer; appendix A.1, Table 2, lists its primitives. Validation, mutation, compilation, canonical form,
cost, export and documentation all read this table, so a new primitive is one new row. Where the paper does not define a
detail, the summary says "our choice".

`Op.apply` is written once for NumPy (float64, the reference) and JAX; its first argument is the array namespace.
Values are `[..., length, width]`. A parameter has the same leading axes as the value, then its own shape.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from . import op_arithmetic as impl
from .extended_ops import EXTENDED_ROWS
from .op import (
    DecodeState,
    Init,
    Law,
    Op,
    OpSizes,
    PackedTexts,
    Parameter,
    ResultRule,
    TimeDependence,
    WidthMatch,
    broadcast_shape,
    dimension_shape,
    mixed_shape,
    pair_shape,
    product_shape,
    reduce_shape,
    same_shape,
)

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

_PAPER_ROWS = (
    _binary("ADD", "x + y", lambda xp, x, y: x + y, "{0} + {1}", Law.COMMUTATIVE),
    _binary("DIFFERENCE", "x - y", lambda xp, x, y: x - y, "{0} - {1}"),
    _binary("DIVIDE", "x / y, with |y| clamped to at least 1e-6, keeping its sign (our choice)", impl.divide,
            "divide({0}, {1})"),
    _binary("MULTIPLY", "x * y", lambda xp, x, y: x * y, "{0} * {1}", Law.COMMUTATIVE),
    Op("MAT_MUL", "scores times values: mixes positions", 2, product_shape,
       impl.binary(lambda xp, x, y: xp.matmul(x, y)), "{0} @ {1}",
       lambda s: 2.0 * s.length * s.out_size, time_dependence=TimeDependence.MIXES, decode_state=DecodeState.SECOND,
       family="matrix product"),
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

OPS: dict[str, Op] = {op.name: op for op in (*_PAPER_ROWS, *EXTENDED_ROWS)}
"""All primitives by name: first the paper's in the order of its table, then those of `extended_ops` and of plugins."""
