"""Refusal of float16 by programs that divide or take logarithms; exported files that do either contain the function."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["GUARDED_OPS", "refuse_float16"]

GUARDED_OPS = frozenset({"DIVIDE", "LOG"})
"""Ops that keep an operand at least 1e-6 from 0 (`primitives.ops.op_arithmetic.EPSILON`)."""


def refuse_float16(x: jax.Array) -> None:
    """Refuse a divisor, or the operand of a logarithm, whose gradient at 0 would not be finite."""
    if x.dtype == jnp.float16:
        what = "a divisor, or a logarithm's operand, may be 1e-6, and 1 / 1e-6 is infinite in it"
        raise ValueError(f"float16 is refused: {what}; use bfloat16")
