"""Budget meters, which charge a trial for training in steps, seconds or reference seconds.

Reference seconds make a budget independent of the current speed of the machine. The worker times its candidate in turns
with the baseline (see `relative_timer`), and charges each step of the candidate

    (time of its step / time of a step of the baseline) * allowance

where the allowance, the seconds charged for a step of the baseline, is fixed once for the whole run. A slow minute of
the machine slows both steps and cancels out, and the baseline always trains for the same number of steps.
benchmarks/results/budget_units.txt compares the units.
"""

from __future__ import annotations

from typing import Protocol

from .relative_timer import RelativeTimer

__all__ = ["ClockMeter", "Meter", "ReferenceMeter", "StepMeter"]


class Meter(Protocol):
    """Adds up the cost of training."""

    @property
    def timer(self) -> RelativeTimer | None:
        """Timer of the steps relative to the baseline's; None: they are not timed."""
        ...

    @property
    def spent(self) -> float:
        """Total charged so far, in the trial's unit."""
        ...

    def charge(self, steps: int, seconds: float) -> None:
        """Charge `steps` steps that took `seconds` together, by the trial's clock."""
        ...

    def resume(self, spent: float) -> None:
        """Continue a training that has spent this part of its budget. Call it before the first charge."""
        ...


class StepMeter:
    """Counts optimizer steps.

    Args:
        timer: timer of the candidate's steps relative to the baseline's; None: they are not timed.
    """

    def __init__(self, timer: RelativeTimer | None = None) -> None:
        self.timer = timer
        self.spent = 0.0

    def charge(self, steps: int, seconds: float) -> None:
        """Charge 1 for each step."""
        self.spent += steps
        if self.timer is not None:
            self.timer.add(steps, seconds)

    def resume(self, spent: float) -> None:
        """Count the steps taken before."""
        self.spent = spent


class ClockMeter:
    """Counts seconds."""

    timer: RelativeTimer | None = None

    def __init__(self) -> None:
        self.spent = 0.0

    def charge(self, steps: int, seconds: float) -> None:
        """Charge the seconds."""
        self.spent += seconds

    def resume(self, spent: float) -> None:
        """Count the seconds spent before."""
        self.spent = spent


class ReferenceMeter:
    """Counts reference seconds.

    Args:
        timer: timer of the candidate's steps relative to the baseline's.
        allowance_seconds: seconds charged for one step of the baseline.
    """

    def __init__(self, timer: RelativeTimer, allowance_seconds: float):
        self.timer = timer
        self.allowance_seconds = allowance_seconds
        self.spent = 0.0
        self._earlier = 0.0

    def charge(self, steps: int, seconds: float) -> None:
        """Add the steps to the timer, then charge all steps so far by the latest ratio of step times."""
        self.timer.add(steps, seconds)
        # Charging all steps again corrects charges by an early, less precise ratio; the total never decreases.
        # While the ratio is unknown, a step costs as much as a step of the baseline.
        charged = self.timer.steps * (self.timer.relative_step or 1.0) * self.allowance_seconds
        self.spent = max(self.spent, self._earlier + charged)

    def resume(self, spent: float) -> None:
        """Add what was spent before. The ratio of step times is measured again from now on."""
        self.spent = self._earlier = spent
