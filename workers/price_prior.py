"""Estimate of a program's price while it trains, from operation counts and timings that are still short.

The price is the logarithm of the step time relative to the baseline's. Early in a training it is timed badly, and
operation counts predict it better (docs/discovery.md, "Two views of a gain"). So a hurdle weighs both by their
precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PricePrior", "StepCounts", "combine_with_timing", "log_price_at_hurdle", "step_counts"]

StepCounts = tuple[float, float, float]
"""Floating-point operations, bytes accessed and transcendental functions of a training step, before optimization."""


def step_counts(flops: float | None, accessed: float | None, transcendentals: float | None) -> StepCounts | None:
    """Return the operation counts of a step; None if one is missing."""
    if flops is None or accessed is None or transcendentals is None:
        return None
    return float(flops), float(accessed), float(transcendentals)


@dataclass(frozen=True, slots=True)
class PricePrior:
    """The price of programs as a run predicts it.

    Attributes:
        baseline: operation counts of the baseline's step.
        exponents: exponents of the counts, relative to the baseline's, in the relative step time.
        covariance: covariance matrix of the errors of the exponents.
        sd: standard deviation of what the counts do not explain, in log time.
        timing_sd: standard deviation of the log price that a whole training times. For a training that lasted for a
            share of a whole one, the variance is divided by the share.
        bias: log price that timings give the baseline.
    """

    baseline: StepCounts
    exponents: StepCounts
    covariance: tuple[StepCounts, ...]
    sd: float
    timing_sd: float
    bias: float = 0.0

    def log_price(self, counts: StepCounts, relative_step: float | None, share: float) -> float:
        """Return the expected log price of a program.

        Args:
            counts: operation counts of its step.
            relative_step: its step time relative to the baseline's; None: not timed.
            share: share of a whole training in which it was timed.
        """
        ratios = [math.log1p(own) - math.log1p(other) for own, other in zip(counts, self.baseline, strict=True)]
        predicted = _product(self.exponents, ratios)
        if not relative_step:
            return predicted
        variance = self.sd**2 + _product([_product(row, ratios) for row in self.covariance], ratios)
        timed = math.log(relative_step) - self.bias
        return combine_with_timing(predicted, variance, timed, self.timing_sd**2 / share)[0]


def combine_with_timing(predicted: float, variance: float, timed: float, timing_variance: float) -> tuple[float, float]:
    """Return mean and variance of a log price: its prediction and its timing, each weighted by its precision."""
    precision, timing = 1.0 / variance, 1.0 / timing_variance
    return (precision * predicted + timing * timed) / (precision + timing), 1.0 / (precision + timing)


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def log_price_at_hurdle(
    prior: PricePrior | None, counts: StepCounts | None, relative_step: float | None, share: float
) -> float:
    """Return the log price for a hurdle. Without a prior it is that of the timing, and without a timing 0.

    Args:
        prior: price of programs as the run predicts it.
        counts: operation counts of the program's step.
        relative_step: its step time relative to the baseline's.
        share: share of a whole training at the hurdle.
    """
    if prior is not None and counts is not None:
        return prior.log_price(counts, relative_step, share)
    return math.log(relative_step) if relative_step else 0.0
