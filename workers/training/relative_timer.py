"""Timing of a candidate's step relative to the baseline's step: both are timed in turns on the same device.

Other programs on the machine slow both steps, so they hardly change the ratio.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from .steps.train_state import TrainState
from .steps.train_step import StepFunctions

__all__ = ["ReferenceStep", "RelativeTimer"]

REFERENCE_SHARE = 0.1
"""Time spent on timing the baseline, as a share of the time of the candidate's steps, up to `FULL_SHARE_SECONDS`."""

FULL_SHARE_SECONDS = 5.0
"""Time of the candidate's steps above which the time for timing the baseline grows only as its square root. Timing then
takes about 5% of a training of 20 s and 2% of a training of two minutes, and the error of the ratio still falls."""

READING_STEPS = 8
"""Steps in the shortest timing of the baseline. A single step would be slower, because the caches would be cold."""

READING_SECONDS = 0.1
"""Longest time of the shortest timing. If steps are slow, it has fewer than `READING_STEPS` steps, but at least one."""


class RelativeTimer:
    """Times the steps of a candidate in turns with those of the baseline.

    Args:
        step: training step of the baseline, to time.
    """

    def __init__(self, step: ReferenceStep):
        self.step = step
        self.steps = 0
        self._seconds = 0.0  # time of the candidate's steps
        self._reference_seconds = 0.0  # time of all timings
        self._untimed_steps = 0  # the candidate's steps since the last timing
        self._timed_seconds = 0.0  # time of the candidate's steps before the last timing
        self._baseline_seconds = 0.0  # time that the baseline would need for the same number of steps

    @property
    def relative_step(self) -> float | None:
        """Time of a step divided by the time of the baseline's step; None before both are timed.

        Each timing of the baseline is compared with the candidate's steps since the previous timing. So a machine that
        becomes slower does not change the ratio, although timings become rarer. Times are summed. A median would
        exclude occasional disturbances of the baseline's many short timings, but not those of the candidate's longer
        chunks.
        """
        return self._timed_seconds / self._baseline_seconds if self._baseline_seconds else None

    def add(self, steps: int, seconds: float) -> None:
        """Add steps of the candidate that took `seconds` together. Time the baseline if a timing is due."""
        self.steps += steps
        if self.steps == steps:  # the first steps are slower
            return
        self._seconds += seconds
        self._untimed_steps += steps
        due = REFERENCE_SHARE * _full_share(self._seconds) - self._reference_seconds
        reading = min(READING_SECONDS, READING_STEPS * self.step.seconds)
        if due > reading or not self._baseline_seconds:
            taken, count = self.step.time(max(due, reading))
            self._reference_seconds += taken
            self._baseline_seconds += self._untimed_steps * taken / count
            self._timed_seconds, self._untimed_steps = self._seconds, 0


def _full_share(seconds: float) -> float:
    return min(seconds, math.sqrt(FULL_SHARE_SECONDS * seconds))


class ReferenceStep:
    """The baseline's training step, compiled once per worker and only timed. The model that it trains is not used.

    Args:
        functions: step functions of the baseline, with the step compiled.
        state: first training state.
        tokens: batch that every step uses.
        clock: function that returns seconds.

    Attributes:
        seconds: time of a step in the last timing.
    """

    def __init__(
        self,
        functions: StepFunctions,
        state: TrainState,
        tokens: np.ndarray,
        clock: Callable[[], float] = time.process_time,
    ):
        self._functions = functions
        self._tokens = tokens
        self._clock = clock
        self._start = jax.tree.map(np.array, state)
        self._state = functions.place(self._start)
        self.seconds = 0.0
        self.time(0.0)  # the first step is slower

    def median_step_seconds(self, seconds: float) -> float:
        """Return the median step time over ten timings that take about `seconds` together."""
        timings = [self.time(seconds / 10) for _ in range(10)]
        return statistics.median(taken / count for taken, count in timings)

    def time(self, seconds: float) -> tuple[float, int]:
        """Take steps for about `seconds`, at least one.

        Returns:
            The seconds that the steps took, and the number of steps.
        """
        count = max(1, int(seconds / self.seconds)) if self.seconds > 0 else 1
        self._step()  # not timed: the caches still hold the candidate's data
        start = self._clock()
        for _ in range(count - 1):
            self._step(wait=False)
        finite = self._step()
        taken = self._clock() - start
        self.seconds = taken / count
        if not finite:  # not observed so far; a step on NaN may take more or less time
            self._state = self._functions.place(self._start)
        return taken, count

    def _step(self, wait: bool = True) -> bool:
        """Take a step; with `wait`, wait for its end and return whether its gradient is finite."""
        self._state, result = self._functions.step(self._state, self._tokens)
        return not wait or bool(np.isfinite(np.asarray(result.gradient_norm)))
