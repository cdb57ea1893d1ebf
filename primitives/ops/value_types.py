"""Types of the values between instructions: arrays `[batch, length, width]` of three kinds.

An **activation** holds the features of each position; its width is counted in units. **Scores**, the result of
T_MAT_MUL, relate positions to positions: their last axis is the length. A **scalar** is the width-1 result of a
reduction. Only a scalar broadcasts, as when a mean is subtracted or a softmax is normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property

from ..errors import InvalidProgramError

__all__ = ["BLOCK_INPUT", "MODEL_WIDTH", "SCALAR", "SCORES", "Kind", "Value", "activation", "channels"]

MODEL_WIDTH = 8
"""Width of the block's input and output (d_model), in units."""


class Kind(Enum):
    """The three kinds of value."""

    ACTIVATION = "activation"
    SCORES = "scores"
    SCALAR = "scalar"


@dataclass(frozen=True)
class Value:
    """Kind and width of a value.

    Attributes:
        kind: meaning of the last axis.
        width: width of an activation in units (a fraction inside branches); None for scores and scalars.
    """

    kind: Kind
    width: Fraction | None = None

    @cached_property
    def width_text(self) -> str:
        """The width as text, for hashes."""
        return str(self.width)

    def __str__(self) -> str:
        return f"activation of {self.width} units" if self.kind is Kind.ACTIVATION else self.kind.value


SCORES = Value(Kind.SCORES)
SCALAR = Value(Kind.SCALAR)


def activation(width: Fraction | int) -> Value:
    """Return the type of an activation `width` units wide."""
    return Value(Kind.ACTIVATION, width if isinstance(width, Fraction) else Fraction(width))


BLOCK_INPUT = activation(MODEL_WIDTH)


def channels(value: Value, unit: int, length: int) -> int:
    """Return the size of the last axis, for a unit of `unit` channels and sequences of `length` positions.

    Raises:
        InvalidProgramError: the width is not a whole number of channels, or is less than one channel.
    """
    if value.kind is Kind.SCORES:
        return length
    if value.width is None:
        return 1
    size, remainder = divmod(value.width.numerator * unit, value.width.denominator)
    if remainder or size < 1:
        raise _not_whole(value.width, unit)
    return size


def _not_whole(width: Fraction, unit: int) -> InvalidProgramError:
    size = width * unit
    return InvalidProgramError(
        "widths",
        f"a width of {width} units is {size} channels at {unit} channels a unit, not a whole number; "
        f"use fewer branches, a larger dimension, or a unit divisible by {size.denominator * unit}",
    )
