"""What a search is, and the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from ..models.config import STRICT, ModelConfig
from ..primitives.errors import UsageError
from ..workers.config import DataConfig, OptimizerConfig, TrialConfig, WorkersConfig

__all__ = ["RunConfig", "SearchConfig"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Regularized evolution (Real et al. 2019) as Primer uses it (section 2 and appendix A.2).

    Attributes:
        strategy: `evolution`; `random`, the control without selection (anybody alive may become the parent); or
            `random-init`, programs drawn at random (the paper's section 2).
        population: individuals alive at once; the oldest dies.
        tournament: individuals drawn for a tournament, the best of which becomes the parent.
        baseline: the library program the population starts from.
        baseline_trials: how often the baseline is trained before others are compared with it.
        control_every: after so many further candidates the baseline is trained once more, as a control; 0 for never.
            The spread of all its trials is the noise of fitness.
        confirm_top: at the end of a search, at most so many of its best are trained anew with fresh seeds and scored on
            the test text, as many as a quarter of the budget allows; 0 for none.
        confirm_repeats: fresh trainings of each.
        proposals: most mutations tried for a child before it takes over the evaluation of what it equals.
        hurdle_window: a hurdle's threshold is the median of the last so many that reached it.
        hurdle_minimum: below so many, all pass.
        retries: how often a trial is repeated after an infrastructure fault.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    strategy: Literal["evolution", "random", "random-init", "guided"] = "evolution"
    population: Annotated[int, Ge(2)] = 20
    tournament: Annotated[int, Ge(1)] = 5
    baseline: str = "TRANSFORMER"
    baseline_trials: Annotated[int, Ge(1)] = 3
    control_every: Annotated[int, Ge(0)] = 25
    confirm_top: Annotated[int, Ge(0)] = 5
    confirm_repeats: Annotated[int, Ge(1)] = 3
    proposals: Annotated[int, Ge(1)] = 100
    hurdle_window: Annotated[int, Ge(1)] = 100
    hurdle_minimum: Annotated[int, Ge(1)] = 10
    retries: Annotated[int, Ge(0)] = 2


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything a run is determined by, apart from its seed and its budget."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model: ModelConfig = field(default_factory=ModelConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain JSON values by section; `from_dict` reads them back."""
        return asdict(self)

    @staticmethod
    def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> RunConfig:
        """The inverse of `to_dict`, for values that were validated when they were written.

        Raises:
            UsageError: a setting that this version does not have; one that is missing keeps its default.
        """
        types = {
            "model": ModelConfig,
            "trial": TrialConfig,
            "optimizer": OptimizerConfig,
            "data": DataConfig,
            "search": SearchConfig,
            "workers": WorkersConfig,
        }
        for name, values in sections.items():
            known = {setting.name for setting in fields(types[name])} if name in types else set()
            if former := [f"{name}.{key}" for key in values if key not in known]:
                raise UsageError(
                    f"these settings were kept by another version of primer-search, and this one does not have "
                    f"{former[0]}: use the version they were made with, or begin anew."
                )
        return RunConfig(**{name: types[name](**values) for name, values in sections.items()})
