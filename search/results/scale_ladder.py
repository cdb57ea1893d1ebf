"""What a ladder of scales says: winners and seed at rising sizes, and whether the order at one holds at the next.

What wins in a small model for a minute need not win in a large one for an hour. Each scale is a confirmation of its own
(`confirmation`): fresh seeds, paired with the baseline's, scored on the test text. Between two scales there are the
rank correlations of the programs that both ranked. They are damped by noise: programs that no scale tells apart are in
random order at each, so a low correlation among near-equals says little, and one among clear differences much.

The trainings are events of the run; this module reads them. The lowest scale is the run's own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ...models.config import ModelConfig
from ..config import RunConfig
from .confirmation import Confirmation, Retraining, confirmations, read_retraining, read_retrainings
from .statistics import rank_correlations

if TYPE_CHECKING:
    from ..runs.records import Event

__all__ = ["INCOMPATIBLE", "Agreement", "Ladder", "Scale", "ScaleResult", "build_ladder"]

INCOMPATIBLE = "rejected:size"
"""The outcome of a program that does not exist at a scale's size."""

LEAST_PROGRAMS = 3
"""For a rank correlation: the order of two is right or wrong, and says nothing of order."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A size of model and training.

    Attributes:
        layers, unit, length: of the model.
        batch: sequences in a batch.
        learning_rate: its peak.
        budget: of one training, counted in `clock`, a unit of `TrialConfig`.
    """

    layers: int
    unit: int
    length: int
    batch: int
    learning_rate: float
    budget: float
    clock: str

    @staticmethod
    def of(config: RunConfig) -> Scale:
        """The size that a configuration trains at."""
        model, trial = config.model, config.trial
        rate = config.optimizer.learning_rate
        return Scale(model.layers, model.unit, model.length, trial.batch, rate, trial.budget, trial.unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Scale(**values)` reads them back."""
        return asdict(self)

    @property
    def width(self) -> int:
        """Channels of the block's input and output."""
        return ModelConfig(unit=self.unit).width

    @property
    def label(self) -> str:
        """The size in words."""
        budget = f"{self.budget:g} {'steps' if self.clock == 'steps' else 's'}"
        return f"{self.layers} layer{'s' * (self.layers != 1)} of width {self.width}, {budget}"

    @property
    def size(self) -> tuple[float, ...]:
        """By what scales are ordered: weights of the blocks, then what a training costs."""
        return self.layers * self.unit**2, self.budget, self.length, self.batch, self.learning_rate


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """One program at one scale.

    Attributes:
        result: its fresh trainings there against the baseline's.
        unfit: why it cannot be trained at this size; empty for those that can.
        rescaled: whether its query scale was brought to the width.
    """

    result: Confirmation
    unfit: str = ""
    rescaled: bool = False

    @property
    def verdict(self) -> str:
        """Whether it is better than the baseline there, in words."""
        return f"does not fit: {self.unfit}" if self.unfit else self.result.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        fit = {"verdict": self.verdict, "unfit": self.unfit or None, "rescaled": self.rescaled}
        return {**self.result.to_dict(), **fit}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the order of programs at one scale is that at another.

    Attributes:
        lower, upper: places of the scales in the ladder.
        programs: how many both scales ranked, the baseline among them.
        kendall_tau, spearman_rho: 1 for the same order, -1 for the opposite; None for too few programs.
    """

    lower: int
    upper: int
    programs: int
    kendall_tau: float | None
    spearman_rho: float | None


@dataclass(frozen=True, slots=True)
class Ladder:
    """Scales from the smallest on, what each says of the programs (best first), and how far they agree."""

    scales: tuple[Scale, ...]
    results: tuple[tuple[ScaleResult, ...], ...]
    agreements: tuple[Agreement, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The scales in words: with all in which they differ."""
        words = {"length": "length", "batch": "batch", "learning_rate": "learning rate"}
        differ = [name for name in words if len({getattr(scale, name) for scale in self.scales}) > 1]
        return tuple(
            ", ".join([scale.label, *(f"{words[name]} {getattr(scale, name):g}" for name in differ)])
            for scale in self.scales
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All programs: in the order of the highest scale that ranks them."""
        ordered = [entry.result.name for results in reversed(self.results) for entry in results if entry.result.rank]
        return tuple(dict.fromkeys([*ordered, *(entry.result.name for results in self.results for entry in results)]))

    @property
    def better_everywhere(self) -> tuple[str, ...]:
        """Programs confirmed to be better than the baseline at every scale."""
        return tuple(
            name
            for name in self.names
            if all((entry := self.at(place, name)) and entry.result.better for place in range(len(self.scales)))
        )

    def at(self, place: int, name: str) -> ScaleResult | None:
        """What a scale says of a program; None if it was not trained there."""
        return next((entry for entry in self.results[place] if entry.result.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "scales": [
                {**scale.to_dict(), "width": scale.width, "programs": [entry.to_dict() for entry in results]}
                for scale, results in zip(self.scales, self.results, strict=True)
            ],
            "agreements": [asdict(agreement) for agreement in self.agreements],
            "better_everywhere": list(self.better_everywhere),
        }


def build_ladder(manifest: Mapping[str, Any], events: Iterable[Event]) -> Ladder | None:
    """The ladder that a run's events hold; None where nothing was trained at another size."""
    events = list(events)
    trained: dict[Scale, list[Retraining]] = {}
    refits: set[tuple[Scale, str]] = set()
    for event in events:
        if event.kind == "retrained_at_scale":
            scale, retraining = Scale(**event.payload["scale"]), read_retraining(event)
            trained.setdefault(scale, []).append(retraining)
            if event.payload["rescaled"]:
                refits.add((scale, retraining.name))
    if not trained:
        return None
    if ground := read_retrainings(events):
        own = Scale.of(RunConfig.from_dict(manifest["config"]))
        budget = ground[-1].budget
        trained[replace(own, budget=budget)] = [each for each in ground if each.budget == budget]
    scales = tuple(sorted(trained, key=lambda scale: scale.size))
    results = tuple(_results_at_scale(trained[scale], {name for at, name in refits if at == scale}) for scale in scales)
    pairs = combinations(range(len(scales)), 2)
    return Ladder(scales, results, tuple(_agreement(results, lower, upper) for lower, upper in pairs))


def _results_at_scale(retrainings: Sequence[Retraining], refits: set[str]) -> tuple[ScaleResult, ...]:
    unfit = {each.name: each.evaluation.message for each in retrainings if each.evaluation.outcome == INCOMPATIBLE}
    rows = confirmations(retrainings)
    return tuple(ScaleResult(row, unfit.get(row.name, ""), row.name in refits) for row in rows)


def _agreement(results: Sequence[Sequence[ScaleResult]], lower: int, upper: int) -> Agreement:
    values = [
        {
            entry.result.name: entry.result.test_bits_per_byte
            for entry in results[place]
            if entry.result.rank is not None and entry.result.test_bits_per_byte is not None
        }
        for place in (lower, upper)
    ]
    shared = [name for name in values[0] if name in values[1]]
    first, second = ([found[name] for name in shared] for found in values)
    correlations = rank_correlations(first, second) if len(shared) >= LEAST_PROGRAMS else None
    return Agreement(lower, upper, len(shared), *(correlations or (None, None)))
