"""Curves in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["sparkline", "steps_in_columns"]

_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Return one block character for each value; the lowest value has the lowest block.

    >>> sparkline([4.0, 3.5, 3.0])
    '█▅▁'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / (high - low)) if high > low else 0] for value in values)


def steps_in_columns(start: float, steps: Sequence[tuple[int, float]], length: int, columns: int) -> list[float]:
    """Return a falling step curve at equally spaced points.

    Args:
        start: value before the first step.
        steps: position (from 1) and value of each step, in order. Steps above the current value are ignored.
        length: last position of the curve.
        columns: number of points; at most `length` are returned.

    >>> steps_in_columns(4.0, [(3, 3.5), (4, 3.0)], length=4, columns=4)
    [4.0, 4.0, 3.5, 3.0]
    """
    columns = max(min(columns, length), 0)
    values, value, remaining = [], start, list(steps)
    for column in range(1, columns + 1):
        while remaining and remaining[0][0] * columns <= column * length:
            value = min(value, remaining.pop(0)[1])
        values.append(value)
    return values
