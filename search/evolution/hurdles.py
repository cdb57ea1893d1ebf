"""Halving hurdles: points of the budget at which the worse half of the candidates is stopped (Primer, appendix A.2).

With budget T and n hurdles, d = T / (2^(n+1) - 1), and hurdle i is at (2^i - 1) d. The hurdles divide the budget into
n+1 stretches. Each is twice as long as the one before, and half as many candidates reach it. So each stretch costs the
search the same compute, d per candidate, and the mean cost of a candidate is (n+1) d.

The paper does not say how to find "the better half" of candidates that arrive one by one. Our choice: a candidate
passes if it is better than the median of the last `window` candidates at that hurdle. All pass until `minimum`
candidates have reached it.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from statistics import median

from ...workers.protocol import HurdleThreshold

__all__ = ["Hurdles", "hurdle_positions", "mean_cost"]


def hurdle_positions(budget: float, n: int) -> tuple[float, ...]:
    """Return the positions of the `n` hurdles of a full budget, in the budget's unit.

    >>> [round(at, 1) for at in hurdle_positions(25_200, 4)]
    [812.9, 2438.7, 5690.3, 12193.5]
    """
    stretch = _stretch(budget, n)
    return tuple((2**i - 1) * stretch for i in range(1, n + 1))


def mean_cost(budget: float, n: int) -> float:
    """Return the mean cost of a candidate if half of them pass each hurdle, in the budget's unit.

    >>> round(mean_cost(25_200, 4), 1)
    4064.5
    """
    return (n + 1) * _stretch(budget, n)


class Hurdles:
    """Moving thresholds of a search: the last losses at each hurdle, and the loss that the next trial must beat there.

    Args:
        budget: full trial budget, in the trial's unit.
        n: number of hurdles; 0 turns them off.
        window: number of latest losses at a hurdle of which the median is taken as the threshold.
        minimum: number of losses that a hurdle must have before it stops trials. If it is larger than `window`, no
            trial is ever stopped.
    """

    def __init__(self, budget: float, n: int, window: int = 100, minimum: int = 10):
        if window < 1 or minimum < 1:
            raise ValueError(f"the window and minimum of hurdles must be at least 1, not {window} and {minimum}")
        self.positions = hurdle_positions(budget, n)
        self.minimum = minimum
        self._seen = tuple(deque[float](maxlen=window) for _ in self.positions)

    def record(self, hurdle_losses: tuple[float, ...]) -> None:
        """Record the losses of one finished trial at the hurdles it reached, in nats per token.

        The first non-finite loss and all later ones are ignored. The run store does the same, so a resumed run has the
        same thresholds.

        Raises:
            ValueError: more losses than hurdles.
        """
        if len(hurdle_losses) > len(self.positions):
            raise ValueError(
                f"{len(hurdle_losses)} losses at {len(self.positions)} hurdles: give at most one per hurdle"
            )
        for seen, loss in zip(self._seen, takewhile(math.isfinite, hurdle_losses), strict=False):
            seen.append(loss)

    def thresholds(self) -> tuple[HurdleThreshold, ...]:
        """Return the loss that a new trial must beat at each hurdle; None until `minimum` trials have reached it."""
        return tuple(
            HurdleThreshold(at, median(seen) if len(seen) >= self.minimum else None)
            for at, seen in zip(self.positions, self._seen, strict=True)
        )


def _stretch(budget: float, n: int) -> float:
    if n < 0 or not budget > 0:
        raise ValueError(f"{n} hurdles in a budget of {budget}: the budget must be positive, the number at least 0")
    return budget / (2 ** (n + 1) - 1)
