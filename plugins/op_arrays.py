"""Random arrays for the checks of an op: operands, parameters, and the result of the op."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from ..primitives.errors import InvalidProgramError
from ..primitives.ops.op_table import Op, TimeDependence, WidthMatch
from ..primitives.ops.value_types import SCALAR, SCORES, Value, activation, channels

__all__ = [
    "BATCH",
    "CONSTANT",
    "LENGTH",
    "TOLERANCE",
    "UNIT",
    "Arrays",
    "BrokenContractError",
    "Learned",
    "apply_op",
    "draw_arrays",
    "is_close",
    "is_past",
    "operand_kinds",
    "require",
    "result_of",
]

BATCH, LENGTH, UNIT, WIDTH = 2, 6, 1, 12
CONSTANT = 0.25
TOLERANCE = 1e-9

Arrays = list[np.ndarray]
Learned = dict[str, np.ndarray]


class BrokenContractError(Exception):
    """A broken promise of the contract. The message is the part after "plugin X, op Y: "."""


def operand_kinds(op: Op) -> list[tuple[Value, ...]]:
    """Return the combinations of operand kinds that an op takes; their widths are such that none needs repair."""
    combinations = product((activation(8), SCALAR, SCORES), repeat=op.operands)
    return [
        kinds
        for kinds in combinations
        if result_of(op, kinds) is not None and (op.width_match is not WidthMatch.ALWAYS or len(set(kinds)) == 1)
    ]


def draw_arrays(op: Op, kinds: Sequence[Value], rng: np.random.Generator) -> tuple[Arrays, Learned]:
    """Return random operands `[batch, length, width]` and parameters of an op."""
    operands = [rng.standard_normal((BATCH, LENGTH, channels(kind, UNIT, LENGTH))) for kind in kinds]
    return operands, _learned(op, tuple(kinds), rng)


def is_past(op: Op) -> bool:
    """Return whether an op depends on earlier positions."""
    return op.time_dependence is TimeDependence.PAST


def result_of(op: Op, kinds: tuple[Value, ...]) -> Value | None:
    """Return the kind and width of the output, or None if the op refuses these operands."""
    try:
        value = op.result(kinds, Fraction(WIDTH) if op.uses_dimension else None)
    except InvalidProgramError:
        return None
    except Exception as error:  # code of a plugin may raise anything
        raise BrokenContractError(f"its `result` fails with {type(error).__name__}: {error}") from error
    require(isinstance(value, Value), f"its `result` must return a Value, not {value!r}")
    return value


def _learned(op: Op, kinds: tuple[Value, ...], rng: np.random.Generator) -> Learned:
    result = result_of(op, kinds)
    assert result is not None
    sizes = {"in": channels(kinds[0], UNIT, LENGTH), "out": channels(result, UNIT, LENGTH), "kernel": op.kernel}
    return {p.name: rng.standard_normal([sizes[symbol] for symbol in p.shape]) for p in op.parameters}


def apply_op(op: Op, operands: Sequence[Any], learned: dict[str, Any], xp: Any = np) -> Any:
    """Return the result of the op on these arrays, in the namespace `numpy` or `jax.numpy`."""
    return op.apply(xp, list(operands), learned, CONSTANT if op.uses_constant else None, op.kernel)


def is_close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether two arrays are equal up to rounding in float64."""
    return np.shape(found) == np.shape(wanted) and np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def require(holds: Any, promise: str) -> None:
    """Raise a BrokenContractError with the promise unless it holds."""
    if not holds:
        raise BrokenContractError(promise)
