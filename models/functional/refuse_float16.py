"""Refusal of float16 for programs that divide or take logarithms; exported files of such programs contain it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["GUARDED_OPS", "refuse_float16"]

GUARDED_OPS = frozenset({"DIVIDE", "LOG"})
"""Ops that raise the magnitude of an operand to at least 1e-6 (`primitives.ops.op_arithmetic.EPSILON`)."""


def refuse_float16(x: jax.Array) -> None:
    """Raise an error if a divisor, or the operand of a logarithm, is float16: its gradient may be infinite."""
    if x.dtype == jnp.float16:
        reason = "a divisor, or a logarithm's operand, may be 1e-6, and 1 / 1e-6 is infinite in float16"
        raise ValueError(f"float16 is refused: {reason}; use bfloat16")
