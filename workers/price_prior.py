"""Estimate of a program's price during its training, from operation counts and from timings that are still short.

The log price is the logarithm of the step time relative to the baseline's. Early in a training its timing is imprecise,
and operation counts predict it better (docs/discovery.md, "Two views of a gain"). So a hurdle weights both by their
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
    """A run's prediction of the price of programs: relative step time = product of (relative count ** exponent).

    Attributes:
        baseline: operation counts of the baseline's step.
        exponents: exponent of each operation count, relative to the baseline's count.
        covariance: covariance matrix of the errors of the exponents.
        sd: standard deviation of the part of the log step time that the counts do not explain.
        timing_sd: standard deviation of the error of a log price that was timed over a whole training. If it was timed
            over a share of a training, the variance is divided by the share.
        bias: log price that timings give for the baseline itself; without systematic error it would be 0.
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
        predicted = _dot(self.exponents, ratios)
        if not relative_step:
            return predicted
        variance = self.sd**2 + _dot([_dot(row, ratios) for row in self.covariance], ratios)
        timed = math.log(relative_step) - self.bias
        return combine_with_timing(predicted, variance, timed, self.timing_sd**2 / share)[0]


def combine_with_timing(predicted: float, variance: float, timed: float, timing_variance: float) -> tuple[float, float]:
    """Return mean and variance of a log price from its prediction and its timing, each weighted by its precision."""
    precision, timing = 1.0 / variance, 1.0 / timing_variance
    return (precision * predicted + timing * timed) / (precision + timing), 1.0 / (precision + timing)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def log_price_at_hurdle(
    prior: PricePrior | None, counts: StepCounts | None, relative_step: float | None, share: float
) -> float:
    """Return the log price of a program for a hurdle. Without a prior or counts, it is the timed log price, or 0.

    Args:
        prior: the run's prediction of prices; None: none yet.
        counts: operation counts of the program's step; None: unknown.
        relative_step: its step time relative to the baseline's; None: not timed.
        share: share of a whole training at the hurdle.
    """
    if prior is not None and counts is not None:
        return prior.log_price(counts, relative_step, share)
    return math.log(relative_step) if relative_step else 0.0
