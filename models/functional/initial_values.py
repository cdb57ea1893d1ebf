"""Initial values of the parameters of a program, with NumPy or JAX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...primitives.graphs.parameters import ParameterSpec
from ...primitives.ops.least_squares import RIDGE_START
from ...primitives.ops.op_table import Init

__all__ = ["depthwise_taps", "initial_value"]


def initial_value(spec: ParameterSpec, normal: Callable[[tuple[int, ...]], Any], xp: Any) -> Any:
    """Return the initial value of one parameter (see `Init`).

    Args:
        spec: specification of the parameter.
        normal: function that draws standard normals of a shape; called only for random initial values.
        xp: array namespace, `numpy` or `jax.numpy`.
    """
    if spec.init is Init.ONES:
        return xp.ones(spec.shape)
    if spec.init is Init.ZEROS:
        return xp.zeros(spec.shape)
    if spec.init is Init.RIDGE:
        return xp.full(spec.shape, RIDGE_START)
    if spec.init is Init.FAN_IN:
        return normal(spec.shape) / math.sqrt(spec.fan_in)
    return xp.broadcast_to(depthwise_taps(spec.shape[-2], xp)[:, None], spec.shape)


def depthwise_taps(kernel: int, xp: Any) -> Any:
    """Return 0.5 for the current position and 0.5 / kernel for earlier ones, as in the T5 code of Primer's authors."""
    return xp.where(xp.arange(kernel) == kernel - 1, 0.5, 0.5 / kernel)
