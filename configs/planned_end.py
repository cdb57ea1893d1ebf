"""Plan of the end of a run: how long the search lasts, and which stages of retraining follow.

The run itself decides this from the trainings that it measures (`search.studies.end_of_run`); the plan is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..search.config import RunConfig
from ..search.results.scale_ladder import Scale
from ..search.studies.final_stages import LARGEST_SHARE, Stage, Workers, final_stages, lengthened, stage_limits
from ..search.studies.training_time import MARGIN, training_seconds
from ..system.durations import format_duration
from .rough_time import OVERHEAD_SECONDS, rough_training_seconds

__all__ = ["PlannedEnd"]


@dataclass(frozen=True, slots=True)
class PlannedEnd:
    """Planned end of a run.

    Attributes:
        larger: settings of the larger size, with trainings as long as the budget allows; None without a larger size.
        budget_seconds: wall clock of the whole run.
        stages: planned stages; limits of the stages if not `estimated`.
        estimated: whether there is an estimate of the time of a training.
    """

    larger: RunConfig | None
    budget_seconds: float
    stages: tuple[Stage, ...]
    estimated: bool

    @staticmethod
    def of(config: RunConfig, larger: RunConfig | None, budget_seconds: float, platform: str, slots: int) -> PlannedEnd:
        """Return the planned end of a run; `slots` is the number of trainings that run at once."""
        larger = larger and lengthened(larger, config, budget_seconds)
        each, each_larger = (one and _retraining_seconds(one, platform) for one in (config, larger))
        if each is None:
            return PlannedEnd(larger, budget_seconds, stage_limits(config.search, budget_seconds, bool(larger)), False)
        workers = Workers.of(config.workers.executor, slots)
        stages = final_stages(config.search, budget_seconds, workers, each, each_larger)
        return PlannedEnd(larger, budget_seconds, stages, True)

    @property
    def seconds(self) -> float:
        """Time kept for the end of the run."""
        if self.estimated:
            return sum(stage.seconds for stage in self.stages)
        return LARGEST_SHARE * self.budget_seconds if self.stages else 0.0

    @property
    def search_seconds(self) -> float:
        """Time left for the search."""
        return self.budget_seconds - self.seconds

    def facts(self) -> dict[str, str]:
        """Return the lines of `--dry-run`, by name."""
        if not self.stages:
            return {"search": f"{format_duration(self.budget_seconds)}, without retraining at the end"}
        about = "about" if self.estimated else "at least"
        share = self.search_seconds / self.budget_seconds
        found = {"search": f"{about} {format_duration(self.search_seconds)} ({share:.0%} of the budget)"}
        for stage in self.stages:
            at = f"at {Scale.of(self.larger).label}: " if stage.larger and self.larger else ""
            found["larger size" if stage.larger else "at the end"] = at + self._describe(stage)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the values of `--dry-run --json`."""
        return {
            "search_seconds": self.search_seconds,
            "stages": [stage.to_dict() for stage in self.stages],
            "stages_estimated": self.estimated,
        }

    def _describe(self, stage: Stage) -> str:
        candidates = "the best candidate" if stage.top == 1 else f"the best {stage.top} candidates"
        *most, last = (candidates, "the baseline", *stage.also)
        words = f"{', '.join(most)} and {last}, {stage.repeats} trainings each"
        if self.estimated:
            return f"{words}, about {format_duration(stage.seconds)}"
        return f"at most {words}, {stage.seconds / self.budget_seconds:.1%} of the budget"


def _retraining_seconds(config: RunConfig, platform: str) -> float | None:
    if config.trial.unit != "steps":
        return training_seconds(config, ())
    rough = rough_training_seconds(config, platform)
    return None if rough is None else MARGIN * (rough + OVERHEAD_SECONDS[platform])
