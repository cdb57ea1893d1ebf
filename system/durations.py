"""Durations as people write them: `90s`, `10m`, `24h`, `7d`, and `1h 30m`."""

from __future__ import annotations

import re

from ..primitives.errors import UsageError

__all__ = ["format_duration", "parse_duration"]

_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_PART = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([dhms])"
_DURATION = re.compile(rf"\s*(?:{_PART}\s*)+")

_LONGEST_SECONDS = 3_650 * _SECONDS["d"]
"""Ten years. A longer duration is a typing error, and timers would overflow."""


def parse_duration(text: str) -> float:
    """Read a duration.

    Args:
        text: numbers with units (`s`, `m`, `h`, `d`), the largest unit first: `90s`, `1.5h`, `9m 58s`.

    Returns:
        Seconds, more than zero.

    Raises:
        UsageError: the text is not a duration, is zero, or is longer than ten years.

    >>> parse_duration("10m"), parse_duration("1h 30m")
    (600.0, 5400.0)
    """
    remedy = "write a number and a unit: 90s, 10m, 24h or 7d"
    parts = re.findall(_PART, text) if _DURATION.fullmatch(text) else []
    units = [unit for _, unit in parts]
    if not parts or units != sorted(set(units), key="dhms".index):
        raise UsageError(f"{text[:40]!r} is not a duration: {remedy}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise UsageError(f"{text[:40]!r} must be longer than 0s and at most 3650d: {remedy}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units; below ten seconds, in seconds with one decimal.

    >>> [format_duration(seconds) for seconds in (0.42, 58, 598.4, 86_400, 90_061)]
    ['0.4s', '58s', '9m 58s', '1d', '1d 1h']
    """
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + "s"
    left, parts = round(seconds), []
    for unit, size in _SECONDS.items():
        count, left = divmod(left, int(size))
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)
