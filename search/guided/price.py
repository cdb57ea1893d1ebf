"""The price of a program: the time of its training step relative to the baseline's, as a logarithm.

Timings on a shared machine err by several percent, and one percent is worth about 0.004 nats. So a price has two
sources. XLA's operation counts of the lowered step predict it without a clock, by a linear model that the run fits to
its own timings; and each training times the step in turns with the baseline's. The estimate weighs both by their
precision, and becomes better with every training of the program, and of others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...workers.protocol import Evaluation
from .linear_model import OUTLIERS, LinearModel, Normal, fit_linear_model

__all__ = ["PriceModel", "StepCounts", "step_counts"]

StepCounts = tuple[float, float, float]
"""Floating-point operations, bytes accessed and transcendental functions of a training step, before optimization."""

COUNT_PRIOR = (Normal(0.5, 0.3), Normal(0.4, 0.3), Normal(0.1, 0.2))
"""Prior exponents of the three counts in the relative step time."""

MODEL_SD = 0.05
"""Prior standard deviation of what the counts do not explain, in log time; it weighs as `MODEL_WEIGHT` programs."""

MODEL_WEIGHT = 5

TIMING_SD = 0.04
"""Prior standard deviation of the timing within one training, in log time; it weighs as `TIMING_WEIGHT` timings."""

TIMING_WEIGHT = 5


def step_counts(evaluation: Evaluation) -> StepCounts | None:
    """Return the operation counts of an evaluation; None if it was not compiled."""
    counts = (evaluation.step_flops, evaluation.step_bytes, evaluation.step_transcendentals)
    return None if None in counts else tuple(float(count or 0.0) for count in counts)  # type: ignore[return-value]


class PriceModel:
    """Estimates the logarithm of the relative step time of programs, from operation counts and timings.

    Args:
        baseline: operation counts of the baseline's step, whose price is 1.
    """

    def __init__(self, baseline: StepCounts):
        self._baseline = np.log1p(baseline)
        self._counts: list[np.ndarray] = []
        self._timings: list[float] = []
        self._baseline_timings: list[float] = []
        self._model: LinearModel | None = None

    def record(self, counts: StepCounts, relative_step: float) -> None:
        """Add the timing of one training."""
        features = self._features(counts)
        self._counts.append(features)
        self._timings.append(math.log(relative_step))
        if not features.any():
            self._baseline_timings.append(math.log(relative_step))
        self._model = None

    @property
    def timing_sd(self) -> float:
        """Standard deviation of the log price timed by one training, from the trainings of the baseline."""
        squares = sum(timing**2 for timing in self._baseline_timings)
        return math.sqrt((squares + TIMING_WEIGHT * TIMING_SD**2) / (len(self._baseline_timings) + TIMING_WEIGHT))

    def estimate(self, counts: StepCounts, relative_steps: Sequence[float] = ()) -> Normal:
        """Return the log price of a program.

        Args:
            counts: operation counts of its step.
            relative_steps: relative step times of its trainings, without those that gave none.
        """
        features = self._features(counts)
        if not features.any():
            return Normal(0.0, 0.0)
        prior = self._fitted().predict(features)
        if not relative_steps:
            return prior
        precision, timing = prior.sd**-2, len(relative_steps) / self.timing_sd**2
        timed = float(np.mean(np.log(relative_steps)))
        mean = (precision * prior.mean + timing * timed) / (precision + timing)
        return Normal(mean, math.sqrt(1.0 / (precision + timing)))

    def _features(self, counts: StepCounts) -> np.ndarray:
        return np.log1p(counts) - self._baseline

    def _fitted(self) -> LinearModel:
        if self._model is None:
            features = np.array(self._counts).reshape(-1, 3)
            timings = np.array(self._timings)
            self._model = fit_linear_model(features, timings, COUNT_PRIOR, MODEL_SD, MODEL_WEIGHT, OUTLIERS)
        return self._model
