"""Stages of the end of a run: which programs are retrained at which size, how often, and for how long.

    budget         at the run's own size                  at the larger size (`search.scale_up`)
    under an hour  the best candidates, the baseline      nothing
    from an hour   the same, and PRIMER_EZ                the best two of them, the baseline, PRIMER_EZ
    from a day     twice the candidates                   the best four, each training 4 times as long
    from a week    four times the candidates              the best eight, each training 16 times as long

Longer trainings at the larger size show whether a gain lasts. All these numbers are upper limits. At most a quarter of
the budget is kept for the end, and the numbers shrink until the trainings fit. Each program is trained
`search.confirm_repeats` times, and up to twice as often if time is left, because intervals of a few trainings are wide.
If there is a stage at the larger size, the first stage is planned within half of the kept time. Time that both stages
leave over then goes to more repeats of the first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..config import RunConfig, SearchConfig

__all__ = [
    "LARGEST_SHARE",
    "Growth",
    "Stage",
    "Workers",
    "final_stages",
    "larger_stage",
    "lengthened",
    "own_stage",
    "stage_limits",
]

LARGEST_SHARE = 0.25
"""Largest part of a search's budget that is kept for its end."""

START_SECONDS = {"ray": 20.0, "inline": 2.0}
"""Time to start the workers of a stage, by executor."""

HOUR, DAY, WEEK = 3_600.0, 86_400.0, 604_800.0

MOST_REPEATS = 2
"""Largest number of trainings of each program, as a multiple of `search.confirm_repeats`."""

ALSO_TRAINED = "PRIMER_EZ"
"""Library program that is trained together with the candidates if the budget is an hour or more."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How much more the end of a run trains if its budget is a day or more.

    Attributes:
        candidates: factor on the number of candidates of both stages.
        length: factor on the length of a training at the larger size.
    """

    candidates: int = 1
    length: int = 1

    @staticmethod
    def of(budget_seconds: float) -> Growth:
        """Return the factors for a budget."""
        if budget_seconds >= WEEK:
            return Growth(4, 16)
        return Growth(2, 4) if budget_seconds >= DAY else Growth()


@dataclass(frozen=True, slots=True)
class Stage:
    """Trainings of several programs with the same random seeds.

    Attributes:
        larger: whether the models have the larger size, `search.scale_up`.
        top: number of the best candidates; the baseline is also trained.
        also: library programs that are also trained.
        repeats: number of trainings of each program.
        seconds: estimated wall clock; in a result of `stage_limits`, the longest that is allowed.
    """

    larger: bool
    top: int
    also: tuple[str, ...]
    repeats: int
    seconds: float

    @property
    def programs(self) -> int:
        """Number of programs, the baseline included."""
        return 1 + self.top + len(self.also)

    @property
    def trainings(self) -> int:
        """Number of trainings."""
        return self.programs * self.repeats

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "also": list(self.also), "trainings": self.trainings}


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers of a stage: `slots` trainings run at once, after `start_seconds`."""

    slots: int
    start_seconds: float

    @staticmethod
    def of(executor: str, slots: int) -> Workers:
        """Return the workers of an executor."""
        return Workers(slots, START_SECONDS[executor])

    def fitting(self, seconds: float, each: float) -> int:
        """Return how many trainings of `each` seconds fit into `seconds`."""
        return max(0, int((seconds - self.start_seconds) / each)) * self.slots

    def seconds(self, trainings: int, each: float) -> float:
        """Return the seconds that `trainings` trainings of `each` seconds take."""
        return self.start_seconds + each * -(-trainings // self.slots)


def stage_limits(search: SearchConfig, budget_seconds: float, larger: bool) -> tuple[Stage, ...]:
    """Return the stages with the largest numbers that a budget allows.

    Args:
        search: settings of the search.
        budget_seconds: wall clock of the whole search.
        larger: whether a larger size is set.
    """
    if not search.confirm_top:
        return ()
    growth = Growth.of(budget_seconds)
    hours = budget_seconds >= HOUR
    also = (ALSO_TRAINED,) if hours and search.baseline != ALSO_TRAINED else ()
    repeats, seconds = MOST_REPEATS * search.confirm_repeats, LARGEST_SHARE * budget_seconds
    two = hours and larger
    own = Stage(False, growth.candidates * search.confirm_top, also, repeats, seconds / 2 if two else seconds)
    return (own, Stage(True, min(2 * growth.candidates, own.top), also, repeats, seconds)) if two else (own,)


def lengthened(larger: RunConfig, config: RunConfig, budget_seconds: float) -> RunConfig:
    """Return the settings of the larger size with trainings as long as the budget allows.

    Args:
        larger: configuration at the size `search.scale_up`. If its trial budget is not the run's, that budget is kept.
        config: run configuration.
        budget_seconds: wall clock of the whole search.
    """
    trial, factor = larger.trial, Growth.of(budget_seconds).length
    if trial.budget != config.trial.budget:
        return larger
    longer = {"budget_steps": factor * trial.budget_steps, "budget_seconds": factor * trial.budget_seconds}
    return replace(larger, trial=replace(trial, **longer))


def own_stage(limit: Stage, repeats: int, workers: Workers, each: float) -> Stage | None:
    """Return the first stage within its limit, or None if not even one candidate fits.

    If not even one candidate fits beside the library programs, these are left out.

    Args:
        limit: largest numbers of the stage, and its time.
        repeats: number of trainings of each program.
        workers: workers that train.
        each: seconds of one training.
    """
    fit = workers.fitting(limit.seconds, each)
    for also in dict.fromkeys((limit.also, ())):
        top = min(limit.top, fit // repeats - 1 - len(also))
        if top >= 1:
            return _timed(replace(limit, top=top, also=also, repeats=repeats), workers, each)
    return None


def larger_stage(limit: Stage, least_repeats: int, workers: Workers, each: float) -> Stage | None:
    """Return the stage at the larger size within its limit, or None if two trainings of even one candidate do not fit.

    The stage has as many candidates as fit if every program is trained `least_repeats` times, or if not even one
    candidate fits, twice. Its repeats are then as many as fit with these candidates.
    """
    fit = workers.fitting(limit.seconds, each)
    for least in dict.fromkeys((least_repeats, min(2, least_repeats))):
        for top in range(limit.top, 0, -1):
            repeats = min(limit.repeats, fit // (1 + top + len(limit.also)))
            if repeats >= least:
                return _timed(replace(limit, top=top, repeats=repeats), workers, each)
    return None


def final_stages(
    search: SearchConfig, budget_seconds: float, workers: Workers, each: float, each_larger: float | None
) -> tuple[Stage, ...]:
    """Return the stages of the end of a run.

    Args:
        search: settings of the search.
        budget_seconds: wall clock of the whole search.
        workers: workers that train.
        each: seconds of one training at the run's own size.
        each_larger: seconds of one training at the larger size; None without a larger size.
    """
    if not (limits := stage_limits(search, budget_seconds, each_larger is not None)):
        return ()
    least, whole = search.confirm_repeats, LARGEST_SHARE * budget_seconds
    own, second = own_stage(limits[0], least, workers, each), None
    if own is not None and each_larger is not None and len(limits) == 2:
        left = replace(limits[1], top=min(limits[1].top, own.top), seconds=whole - own.seconds)
        second = larger_stage(left, least, workers, each_larger)
    if second is None and len(limits) == 2:  # the first stage gets the time of both
        own = own_stage(replace(limits[0], seconds=whole), least, workers, each)
    if own is None:
        return ()
    fit = workers.fitting(whole - (second.seconds if second else 0.0), each) // own.programs
    own = _timed(replace(own, repeats=max(least, min(limits[0].repeats, fit))), workers, each)
    return (own,) if second is None else (own, second)


def _timed(stage: Stage, workers: Workers, each: float) -> Stage:
    return replace(stage, seconds=workers.seconds(stage.trainings, each))
