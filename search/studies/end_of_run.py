"""The end of a run: the best candidates are retrained, stage by stage, within the time that the search leaves.

`final_stages` decides the stages. The time to keep for them is computed again after each training of the baseline,
which shows how long a training takes. Trainings that do not finish in time are reported, with a command to complete
them.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...primitives import DNA
from ...system.durations import format_duration
from ...workers.protocol import Evaluation
from ..config import MIN_TRIALS_PER_WORKER, RunConfig
from ..evolution.candidate import BASELINE_ID
from ..results.confirmation import retrained_candidates
from ..results.leaderboard import best_row, leaderboard
from ..results.scale_ladder import Scale
from ..runs.run_settings import load_allowance_seconds
from ..runs.store import Store
from .confirm import confirm_store, contenders, fresh_seeds
from .confirm_at_scale import baseline_contender, check_baseline, retrain_at_scale
from .final_stages import LARGEST_SHARE, Stage, Workers, final_stages, larger_stage, lengthened, stage_limits
from .study import StudyOptions
from .study_queue import StudyState
from .training_time import larger_training_seconds, operations, training_seconds

__all__ = ["EndOfRun", "confirm_at_end"]


@dataclass(frozen=True, slots=True)
class EndOfRun:
    """Settings that the end of a run depends on.

    Attributes:
        config: run configuration.
        larger: configuration of the larger size, with trainings as long as the budget allows; None without one.
        ratio: operations of a training at the larger size, relative to those at the run's own.
        budget_seconds: wall clock of the whole session.
        workers: workers that train.
    """

    config: RunConfig
    larger: RunConfig | None
    ratio: float
    budget_seconds: float
    workers: Workers

    @property
    def scale(self) -> str:
        """The larger size as `confirm --scale` takes it; empty without one."""
        text = self.config.search.scale_up
        if self.larger is None or "budget" in text:
            return text
        trial = self.larger.trial
        return f"{text},budget={trial.budget_steps if trial.unit == 'steps' else f'{trial.budget_seconds:g}s'}"

    @staticmethod
    def of(config: RunConfig, baseline: DNA, larger: RunConfig | None, budget_seconds: float, slots: int) -> EndOfRun:
        """Return the end of a run; `slots` is the number of trainings that run at once.

        Raises:
            UsageError: the baseline is invalid at the larger size.
        """
        ratio = 1.0
        if larger is not None:
            larger = lengthened(larger, config, budget_seconds)
            known = baseline_contender(config, baseline)
            check_baseline(known, config, [larger])
            scaled = known.arm(larger.model, config.model.unit).dna
            ratio = operations(larger, scaled) / operations(config, baseline)
        return EndOfRun(config, larger, ratio, budget_seconds, Workers.of(config.workers.executor, slots))

    def stages(self, baseline: Sequence[Evaluation]) -> tuple[Stage, ...] | None:
        """Return the stages, given the baseline's trainings so far; None if the time of a training is not known."""
        each = training_seconds(self.config, baseline)
        if each is None:
            return None
        return final_stages(self.config.search, self.budget_seconds, self.workers, each, self.larger_seconds(baseline))

    def larger_seconds(self, baseline: Sequence[Evaluation]) -> float | None:
        """Return the time of a training at the larger size; None without one."""
        if self.larger is None:
            return None
        return larger_training_seconds(self.config, self.larger, self.ratio, baseline)

    def reserve(self, baseline: Sequence[Evaluation]) -> float:
        """Return the seconds to keep: the largest share until the baseline's trainings show how long one takes."""
        stages = self.stages(baseline)
        if stages is None:
            return LARGEST_SHARE * self.budget_seconds if self.config.search.confirm_top else 0.0
        return sum(stage.seconds for stage in stages)

    def short_budget(self, baseline: Sequence[Evaluation], seconds: float) -> str:
        """Return a note if few trainings in steps fit on each worker; otherwise, and for budgets in seconds, ''.

        Args:
            baseline: full trainings of the baseline so far.
            seconds: time that is left for the search.
        """
        each = training_seconds(self.config, baseline) if self.config.trial.unit == "steps" else None
        if each is None or seconds >= MIN_TRIALS_PER_WORKER * each:
            return ""
        fit, enough = max(seconds, 0.0) / each, self.budget_seconds - seconds + MIN_TRIALS_PER_WORKER * each
        return (
            f"a full training takes about {format_duration(each)}, so about {fit:.0f} on each worker fit into the rest "
            f"of the budget: expect little improvement; a budget of {format_duration(enough)} or more would be better"
        )


def confirm_at_end(store: Store, end: EndOfRun, options: StudyOptions) -> str:
    """Retrain the best candidates of an open run until the deadline of `options`.

    Returns:
        What is left to do, with the command for it; empty if nothing is left, or if there was no time to begin.

    Raises:
        Interrupted: Ctrl-C; finished trainings are saved.
    """
    if not end.config.search.confirm_top or best_row(leaderboard(store, top=2).rows) is None:
        return ""
    baseline = [
        trial.evaluation
        for trial in store.evaluations()
        if trial.candidate_id == BASELINE_ID and trial.evaluation.outcome == "ok"
    ]
    stages = end.stages(baseline)
    if not stages:
        return ""
    unfinished = _confirm(store, end, stages, baseline, options)
    store.add_event("note", {"why": f"the search ended with a confirmation{unfinished and ': ' + unfinished}"})
    return unfinished


def _confirm(
    store: Store, end: EndOfRun, stages: Sequence[Stage], baseline: Sequence[Evaluation], options: StudyOptions
) -> str:
    own = stages[0]
    watch = _Watch(options)
    confirm_store(store, end.config, watch.options(), top=own.top, repeats=own.repeats, also=own.also)
    if watch.unfinished:
        return f"{watch.unfinished} retrainings finished in time: {_command(store, own)}"
    if end.larger is None or len(stages) < 2:
        return ""
    return _confirm_larger(store, end, end.larger, own, baseline, options)


def _confirm_larger(
    store: Store, end: EndOfRun, larger: RunConfig, own: Stage, baseline: Sequence[Evaluation], options: StudyOptions
) -> str:
    """Retrain the best of the confirmed candidates at the larger size, as often as fits into the time left."""
    label = Scale.of(larger).label
    limit = stage_limits(end.config.search, end.budget_seconds, True)[1]
    left = (options.deadline or float("inf")) - time.monotonic()
    limit = replace(limit, top=min(limit.top, own.top), seconds=min(left, limit.seconds))
    each = end.larger_seconds(baseline)
    stage = larger_stage(limit, end.config.search.confirm_repeats, end.workers, each) if each else None
    if stage is None:
        first = replace(limit, repeats=end.config.search.confirm_repeats)
        return f"no time was left to retrain the best at {label}: {_command(store, first, end.scale)}"
    retrained = retrained_candidates(leaderboard(store).confirmed)
    chosen = [candidate_id for candidate_id, row in retrained.items() if row.rank][: stage.top]
    if not chosen:
        return ""
    watch = _Watch(options, f" at {label}")
    retrain_at_scale(
        store,
        end.config,
        larger,
        contenders(store, end.config, chosen, stage.also),
        fresh_seeds(store.manifest["seed"], stage.repeats),
        watch.options(),
        allowance_seconds=load_allowance_seconds(store),
    )
    if not watch.unfinished:
        return ""
    command = _command(store, stage, end.scale)
    return f"{watch.unfinished} retrainings at {label} finished in time: {command}"


class _Watch:
    """Observer of a stage: prints its progress, and counts the finished trainings."""

    def __init__(self, options: StudyOptions, where: str = ""):
        self._options = options
        self._where = where
        self._counts: tuple[int, int] | None = None

    def options(self) -> StudyOptions:
        """Return the options with this object as their observer."""
        return replace(self._options, observe=self._observe)

    @property
    def unfinished(self) -> str:
        """Count of finished trainings as text; empty if all are finished."""
        if self._counts is None or self._counts[0] == self._counts[1]:
            return ""
        return "{} of {}".format(*self._counts)

    def _observe(self, state: StudyState) -> None:
        counts = state.done, state.total
        if counts != self._counts:
            self._counts = counts
            done, total = counts
            self._options.tell(f"retraining the best candidates{self._where}: {done} of {total} trainings finished")


def _command(store: Store, stage: Stage, scale: str = "") -> str:
    """Return a sentence with the command that makes the trainings of a stage."""
    words = ["primer-search", "confirm", str(store.run.path), "--top", str(stage.top), "--repeats", str(stage.repeats)]
    words += [word for name in stage.also for word in ("--also", name)]
    words += ["--scale", scale] if scale else []
    return f"complete them with `{shlex.join(words)}`"
