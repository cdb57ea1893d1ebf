"""The price of a program: the time of its training step relative to the baseline's, as a logarithm.

Timings on a shared machine err by several percent, and one percent corresponds to about 0.004 nats. So a price has two
sources. First, a linear model predicts it from XLA's operation counts of the lowered step, without a clock; the run
fits this model to its own timings. Second, each training times its steps in turns with steps of the baseline. The
estimate weights both sources by their precision. It improves with every training of the program and of other programs.

A training that was stopped early has a less precise timing. So each timing is weighted by the share of a complete
training that it lasted. This weight is right for trainings of up to five seconds. A longer training is timed less often
towards its end (`relative_timer`), so if it is stopped, its timing is more precise than its weight says.

The baseline is also trained and timed as a candidate. If its timings differ from 1, the timing has a bias: for
example, the training loop of a candidate also makes batches. Every timing is corrected by this bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...workers.price_prior import PricePrior, StepCounts, combine_with_timing
from .linear_model import OUTLIERS, LinearModel, Normal, fit_linear_model

__all__ = ["PriceModel", "Timing"]

COUNT_PRIOR = (Normal(0.5, 0.3), Normal(0.4, 0.3), Normal(0.1, 0.2))
"""Prior exponents of the three counts in the relative step time."""

MODEL_SD = 0.05
"""Prior standard deviation of the error of the count model, in log time; it counts as `MODEL_WEIGHT` programs."""

MODEL_WEIGHT = 5

TIMING_SD = 0.04
"""Prior standard deviation of the timing by one training, in log time; it counts as `TIMING_WEIGHT` timings."""

TIMING_WEIGHT = 5


class Timing(NamedTuple):
    """The step time of a program in one training.

    Attributes:
        relative_step: step time relative to the baseline's.
        share: share of a complete training that this training lasted.
    """

    relative_step: float
    share: float = 1.0


class PriceModel:
    """Estimates the logarithm of the relative step time of programs, from operation counts and timings.

    Args:
        baseline: operation counts of the baseline's step.
    """

    def __init__(self, baseline: StepCounts):
        self._baseline_counts = baseline
        self._baseline = np.log1p(baseline)
        self._counts: list[np.ndarray] = []
        self._timings: list[Timing] = []
        self._baseline_timings: list[Timing] = []
        self._model: LinearModel | None = None

    def record(self, counts: StepCounts, timing: Timing) -> None:
        """Add the timing of one training of a program."""
        self._counts.append(self._features(counts))
        self._timings.append(timing)
        self._model = None

    def record_baseline(self, timing: Timing) -> None:
        """Add the timing of one training of the baseline."""
        self._baseline_timings.append(timing)
        self._model = None

    @property
    def bias(self) -> float:
        """Mean logarithm of the baseline's timings relative to itself; 0 before the first one."""
        return _mean_log(self._baseline_timings) if self._baseline_timings else 0.0

    @property
    def timing_sd(self) -> float:
        """Standard deviation of the log price from the timing of one complete training, estimated on the baseline."""
        bias = self.bias
        squares = sum(each.share * (math.log(each.relative_step) - bias) ** 2 for each in self._baseline_timings)
        return math.sqrt((squares + TIMING_WEIGHT * TIMING_SD**2) / (len(self._baseline_timings) + TIMING_WEIGHT))

    @property
    def prior(self) -> PricePrior:
        """Prior of the price of programs that are not trained yet."""
        model = self._fitted()
        exponents, *rows = map(tuple, np.vstack([model.coefficients, model.covariance]).tolist())
        return PricePrior(self._baseline_counts, exponents, tuple(rows), model.noise_sd, self.timing_sd, self.bias)

    def estimate(self, counts: StepCounts, timings: Sequence[Timing] = ()) -> Normal:
        """Return the log price of a program other than the baseline, whose price is 0.

        Args:
            counts: operation counts of its step.
            timings: timings of its trainings.
        """
        predicted = self._fitted().predict(self._features(counts))
        if not timings:
            return predicted
        timed, variance = _mean_log(timings) - self.bias, self.timing_sd**2 / sum(each.share for each in timings)
        mean, variance = combine_with_timing(predicted.mean, predicted.sd**2, timed, variance)
        return Normal(mean, math.sqrt(variance))

    def _features(self, counts: StepCounts) -> np.ndarray:
        return np.log1p(counts) - self._baseline

    def _fitted(self) -> LinearModel:
        if self._model is None:
            features = np.array(self._counts).reshape(-1, 3)
            logs, shares = np.array([(math.log(step), share) for step, share in self._timings]).reshape(-1, 2).T
            precisions = (MODEL_SD**2 + TIMING_SD**2) / (MODEL_SD**2 + TIMING_SD**2 / shares)
            targets = logs - self.bias
            self._model = fit_linear_model(features, targets, COUNT_PRIOR, MODEL_SD, MODEL_WEIGHT, OUTLIERS, precisions)
        return self._model


def _mean_log(timings: Sequence[Timing]) -> float:
    """Return the mean log price of timings, weighted by their shares."""
    return sum(each.share * math.log(each.relative_step) for each in timings) / sum(each.share for each in timings)
