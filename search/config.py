"""Settings of a search, and the configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from ..models.config import STRICT, ModelConfig
from ..primitives.errors import UsageError
from ..system.durations import parse_duration
from ..workers.config import DataConfig, OptimizerConfig, TrialConfig, WorkersConfig

__all__ = ["MIN_TRIALS_PER_WORKER", "RunConfig", "SearchConfig", "with_trial_budget"]

MIN_TRIALS_PER_WORKER = 8
"""Smallest number of full trials per worker in a search; with fewer, there are too few candidates to select from."""


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of proposals and selection.

    Attributes:
        strategy: `evolution`, regularized evolution (Real et al. 2019) as Primer uses it (section 2, appendix A.2);
            `random`, the same without selection (any live individual may become the parent); `random-init`, programs
            drawn at random (the paper's section 2); `guided` (docs/discovery.md, for budgets in steps), mutations of
            code that affects the output, merges, repeated trainings, and stops by the predicted final loss;
            `guided-random`, the same with random parents and without merges.
        population: number of live individuals; the oldest is removed when one is added.
        tournament: individuals drawn for a tournament; the best becomes the parent.
        baseline: library program that all candidates are measured by, and the default start of the population.
        baseline_trials: trainings of the baseline before the first candidate.
        control_every: number of candidates between further trainings of the baseline; 0 for no further ones. The spread
            of all trainings of the baseline is the noise of the fitness.
        confirm_top: largest number of the best candidates to retrain with fresh random seeds and to score on test text
            at the end of a search, within a quarter of the budget; 0 for none. Searches of a day or more retrain up to
            twice as many, searches of a week or more up to four times as many.
        confirm_repeats: retrainings of each of these candidates; up to twice as many if they fit into the same quarter.
        proposals: largest number of mutations tried for a child; if none gives a new program, the child reuses the
            evaluation of the earlier candidate that it equals.
        vocabulary: ops that mutations draw, as names separated by commas: `paper` (the paper's 39 ops), `extended`
            (the paper's and least squares), `plugins` (the ops of all loaded plugins), the name of one plugin, or the
            name of an op. A minus in front leaves ops out (`paper,-EXP`). A plugin's name also selects its mutations.
        hurdle_window: number of the latest results at a hurdle; their median is the threshold.
        hurdle_minimum: number of results at a hurdle before it stops trials.
        retries: repetitions of a trial after an infrastructure fault.
        scale_up: larger model size, written as for `confirm --scale`, such as `layers=4,unit=16`; empty for none.
            Searches of an hour or more retrain the best confirmed candidates at this size. Unless it has a `budget`, a
            training is as long as in the search, 4 times as long in searches of a day or more, and 16 times as long in
            searches of a week or more.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    strategy: Literal["evolution", "random", "random-init", "guided", "guided-random"] = "evolution"
    population: Annotated[int, Ge(2)] = 20
    tournament: Annotated[int, Ge(1)] = 5
    baseline: str = "TRANSFORMER"
    baseline_trials: Annotated[int, Ge(1)] = 3
    control_every: Annotated[int, Ge(0)] = 25
    confirm_top: Annotated[int, Ge(0)] = 5
    confirm_repeats: Annotated[int, Ge(1)] = 3
    proposals: Annotated[int, Ge(1)] = 100
    vocabulary: str = "paper,plugins"
    hurdle_window: Annotated[int, Ge(1)] = 100
    hurdle_minimum: Annotated[int, Ge(1)] = 10
    retries: Annotated[int, Ge(0)] = 2
    scale_up: str = ""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All settings of a run, except its random seed and its budget."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model: ModelConfig = field(default_factory=ModelConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the settings as JSON values by section; `from_dict` reads them back."""
        return asdict(self)

    @staticmethod
    def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> RunConfig:
        """Return the configuration that `to_dict` wrote; missing settings take their defaults.

        Raises:
            UsageError: a setting is unknown to this version.
        """
        types: dict[str, Any] = {section.name: section.default_factory for section in fields(RunConfig)}
        for name, values in sections.items():
            known = {setting.name for setting in fields(types[name])} if name in types else set()
            if former := [f"{name}.{key}" for key in values if key not in known]:
                raise UsageError(
                    f"{former[0]} is not a setting of this version: use the version of its run, or start a new run"
                )
        return RunConfig(**{name: types[name](**values) for name, values in sections.items()})


def with_trial_budget(trial: TrialConfig, text: str, name: str) -> TrialConfig:
    """Return the trial with another budget.

    Args:
        trial: settings of a trial.
        text: value of `--trial-budget`: a duration such as `5m`, or `5000steps` if the trial counts steps.
        name: name of the run or preset, for messages.

    Raises:
        UsageError: the text is neither, or does not fit the unit of the trial's budget.

    >>> with_trial_budget(TrialConfig(unit="steps"), "5000steps", "laptop").budget
    5000.0
    """
    steps = re.fullmatch(r"\s*([1-9][0-9]{0,9})\s*steps?\s*", text)
    try:
        seconds = None if steps else parse_duration(text)
    except UsageError as error:
        raise UsageError(f"--trial-budget: {error}, or for trainings that count steps, 5000steps") from None
    if trial.unit == "steps" and steps is None:
        raise UsageError(f"--trial-budget {text} is a time, but {name} counts steps: write a number, such as 5000steps")
    if seconds is not None:
        return replace(trial, budget_seconds=seconds)
    if trial.unit != "steps":
        raise UsageError(
            f"--trial-budget {text} counts steps, but {name} counts {trial.unit}: write a time, such as 5m"
        )
    return replace(trial, budget_steps=int(text.strip().removesuffix("s").removesuffix("step")))
