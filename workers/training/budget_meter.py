"""What a trial's training is charged: seconds of a clock, steps, or reference seconds.

Reference seconds make a budget independent of how fast the machine happens to be. The worker times its candidate in
turns with the seed, on the same device; a step of the candidate costs

    (its time / the time of a step of the seed) * allowance

where the allowance, seconds a step of the seed is worth, is fixed once for the whole run. A slow minute slows both, and
cancels; the seed itself always trains the same number of steps. benchmarks/results/clock.txt compares the clocks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from .train_step import StepFunctions, TrainState

__all__ = ["ClockMeter", "Meter", "ReferenceMeter", "ReferenceStep", "StepMeter"]

REFERENCE_SHARE = 0.1
"""Time for steps of the seed, relative to that for the candidate's."""

READING_SECONDS = 0.1
"""The least time for which the seed is timed at once: a few steps in a row, or each would pay for cold caches."""


class Meter(Protocol):
    """Adds up what training costs."""

    @property
    def spent(self) -> float:
        """Charged so far, in the trial's unit."""
        ...

    def charge(self, steps: int, seconds: float) -> None:
        """Charge some steps that took so many seconds of the trial's clock together."""
        ...


class StepMeter:
    """Counts optimizer steps."""

    def __init__(self) -> None:
        self.spent = 0.0

    def charge(self, steps: int, seconds: float) -> None:
        """A step costs one."""
        self.spent += steps


class ClockMeter:
    """Counts seconds."""

    def __init__(self) -> None:
        self.spent = 0.0

    def charge(self, steps: int, seconds: float) -> None:
        """A second costs one."""
        self.spent += seconds


class ReferenceMeter:
    """Counts reference seconds.

    Args:
        step: of the seed, to time.
        allowance_seconds: what one of them is worth.
    """

    def __init__(self, step: ReferenceStep, allowance_seconds: float):
        self.step = step
        self.allowance_seconds = allowance_seconds
        self.spent = 0.0
        self._steps = 0
        self._timed = _Timed()
        self._reference = _Timed()

    @property
    def relative_step(self) -> float | None:
        """A step's time over that of the seed's step.

        Of means: what disturbs the machine now and then meets both alike, and the middle of many short timings would
        miss it where that of the longer ones does not.
        """
        if not self._timed.steps or not self._reference.seconds:
            return None
        return self._timed.mean / self._reference.mean

    def charge(self, steps: int, seconds: float) -> None:
        """Time the seed, if it is its turn; then charge all steps so far by the ratio known now."""
        if self._steps:  # the first steps are slower
            self._timed.add(steps, seconds)
        self._steps += steps
        due = REFERENCE_SHARE * self._timed.seconds - self._reference.seconds
        if due > READING_SECONDS or (due > 0 and not self._reference.steps):
            taken, count = self.step.time(due)
            self._reference.add(count, taken)
        # All of the steps, so that what an early, less certain ratio charged wrongly is put right; never backwards.
        # While no ratio is known, a step costs what one of the seed's does.
        self.spent = max(self.spent, self._steps * (self.relative_step or 1.0) * self.allowance_seconds)


@dataclass(slots=True)
class _Timed:
    """Steps and the seconds they took."""

    steps: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        return self.seconds / self.steps

    def add(self, steps: int, seconds: float) -> None:
        self.steps += steps
        self.seconds += seconds


class ReferenceStep:
    """The seed's training step, compiled once a worker and kept warm; its own training goes nowhere.

    Args:
        functions: with the step compiled.
        state: to start from.
        tokens: a batch, the same for every step.
        clock: seconds so far.
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
        self._seconds = 0.0
        self.time(0.0)  # the first step is slower

    def median_step_seconds(self, seconds: float) -> float:
        """The median over ten pieces of about `seconds` together."""
        pieces = [self.time(seconds / 10) for _ in range(10)]
        return statistics.median(taken / count for taken, count in pieces)

    def time(self, seconds: float) -> tuple[float, int]:
        """Take steps for about so long, at least one.

        Returns:
            The seconds they took, and how many they were.
        """
        count = max(1, int(seconds / self._seconds)) if self._seconds > 0 else 1
        self._step()  # not timed: the candidate's data fill the caches
        start = self._clock()
        for _ in range(count - 1):
            self._step(wait=False)
        finite = self._step()
        taken = self._clock() - start
        self._seconds = taken / count
        if not finite:  # never was seen; the time of a step on NaN may be another
            self._state = self._functions.place(self._start)
        return taken, count

    def _step(self, wait: bool = True) -> bool:
        """Take a step; having waited for it, whether its loss is finite."""
        self._state, result = self._functions.step(self._state, self._tokens)
        return not wait or bool(np.all(np.isfinite(np.asarray(result.token_losses))))
