"""Halving hurdles: the points of the budget at which the worse half of the candidates stops (Primer, appendix A.2).

With budget T and n hurdles, d = T / (2^(n+1) - 1) and hurdle i stands at (2^i - 1) d. As half of those that reach a
hurdle pass it, each stretch between hurdles costs the search the same compute d, twice at the end: (n+1) d a candidate.

The paper does not say how "the better half" is found while candidates arrive one by one. Our choice: a candidate passes
if it is better than the median of the last `window` that reached that hurdle; below `minimum` of them, all pass.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from statistics import median

from ...workers.protocol import HurdleThreshold

__all__ = ["Hurdles", "hurdle_positions", "mean_cost"]


def hurdle_positions(budget: float, n: int) -> tuple[float, ...]:
    """Where the `n` hurdles of a full budget stand, in the budget's unit.

    >>> [round(at, 1) for at in hurdle_positions(25_200, 4)]
    [812.9, 2438.7, 5690.3, 12193.5]
    """
    stretch = _stretch(budget, n)
    return tuple((2**i - 1) * stretch for i in range(1, n + 1))


def mean_cost(budget: float, n: int) -> float:
    """What a candidate costs on average if half of those that reach a hurdle pass it, in the budget's unit.

    >>> round(mean_cost(25_200, 4), 1)
    4064.5
    """
    return (n + 1) * _stretch(budget, n)


class Hurdles:
    """The moving thresholds of a search: what was seen at each hurdle, and what the next trial must beat.

    Args:
        budget: the full trial budget, in the trial's unit.
        n: how many hurdles; 0 for none.
        window: a threshold is the median of the last so many that reached the hurdle.
        minimum: below so many, all pass; above `window`, all pass for ever.
    """

    def __init__(self, budget: float, n: int, window: int = 100, minimum: int = 10):
        if window < 1 or minimum < 1:
            raise ValueError(f"hurdles need window and minimum of at least 1, not {window} and {minimum}")
        self.positions = hurdle_positions(budget, n)
        self.minimum = minimum
        self._seen = tuple(deque[float](maxlen=window) for _ in self.positions)

    def record(self, hurdle_losses: tuple[float, ...]) -> None:
        """Take in one finished trial, the baseline's too: its losses at the hurdles it reached, in nats per token.

        A loss that is no number ends the record (the store keeps none either, so that a resumed run agrees).

        Raises:
            ValueError: more losses than hurdles.
        """
        if len(hurdle_losses) > len(self.positions):
            raise ValueError(f"{len(hurdle_losses)} losses at {len(self.positions)} hurdles: at most one a hurdle")
        for seen, loss in zip(self._seen, takewhile(math.isfinite, hurdle_losses), strict=False):
            seen.append(loss)

    def thresholds(self) -> tuple[HurdleThreshold, ...]:
        """What a trial that starts now must be better than at each hurdle; None while too few reached it."""
        return tuple(
            HurdleThreshold(at, median(seen) if len(seen) >= self.minimum else None)
            for at, seen in zip(self.positions, self._seen, strict=True)
        )


def _stretch(budget: float, n: int) -> float:
    if n < 0 or not budget > 0:
        raise ValueError(
            f"no {n} hurdles in a budget of {budget}: the budget must be positive, the number not negative"
        )
    return budget / (2 ** (n + 1) - 1)
