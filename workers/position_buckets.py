"""Losses by group of positions. The group sizes double, because the loss falls with the logarithm of the context."""

from __future__ import annotations

import numpy as np

__all__ = ["bucket_means", "bucket_names", "bucket_starts"]


def bucket_starts(length: int) -> list[int]:
    """Return the first position of each group, from 0; the last group ends with the sequence.

    >>> bucket_starts(16)
    [0, 1, 3, 7]
    """
    return [2**power - 1 for power in range(length.bit_length()) if 2 ** (power + 1) <= max(length, 2)]


def bucket_means(losses: np.ndarray) -> tuple[float, ...]:
    """Return the mean loss of each group, given the mean loss at each position [length]."""
    groups = np.split(np.asarray(losses, np.float64), bucket_starts(len(losses))[1:])
    return tuple(float(group.mean()) for group in groups)


def bucket_names(length: int) -> list[str]:
    """Return the positions of each group as text, counted from 1.

    >>> bucket_names(16)
    ['1', '2-3', '4-7', '8-16']
    """
    starts = bucket_starts(length)
    ends = [*starts[1:], length]
    return [str(end) if end - start == 1 else f"{start + 1}-{end}" for start, end in zip(starts, ends, strict=True)]
