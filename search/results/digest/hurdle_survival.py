"""Survival of trainings: how many passed each hurdle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ....workers.protocol import Evaluation

__all__ = ["HurdleSurvival", "SurvivalStep"]


@dataclass(frozen=True, slots=True)
class SurvivalStep:
    """One hurdle, or the end of the budget.

    Attributes:
        hurdle: number of the hurdle, from 1; None for the end of the budget.
        reached: number of trainings that were evaluated there.
        stopped: number of trainings that were stopped there.
    """

    hurdle: int | None
    reached: int
    stopped: int


class HurdleSurvival:
    """Counts the trainings of a run by the hurdles that they reached.

    >>> survival = HurdleSurvival()
    >>> survival.record(Evaluation("stopped_at_hurdle", hurdle_losses=(5.0,)))
    >>> survival.record(Evaluation("ok", hurdle_losses=(4.0, 3.5), loss_nats=3.0))
    >>> [(step.hurdle, step.reached, step.stopped) for step in survival.steps()]
    [(1, 2, 1), (2, 1, 0), (None, 1, 0)]
    """

    def __init__(self) -> None:
        self.trainings = 0
        self._reached: Counter[int] = Counter()
        self._stopped: Counter[int] = Counter()
        self._finished = 0

    def record(self, evaluation: Evaluation) -> None:
        """Add the result of one training, also one that failed."""
        self.trainings += 1
        reached = len(evaluation.hurdle_losses)
        self._reached[reached] += reached > 0
        self._stopped[reached] += evaluation.kind == "stopped_at_hurdle"
        self._finished += evaluation.kind == "ok"

    def steps(self) -> list[SurvivalStep]:
        """Return the hurdles in order, then the end of the budget; empty before the first training."""
        if not self.trainings:
            return []
        last = max((hurdle for hurdle, count in self._reached.items() if count), default=0)
        reached = [sum(self._reached[each] for each in range(hurdle, last + 1)) for hurdle in range(1, last + 1)]
        steps = [SurvivalStep(place, count, self._stopped[place]) for place, count in enumerate(reached, start=1)]
        return [*steps, SurvivalStep(None, self._finished, 0)]
