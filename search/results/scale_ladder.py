"""Scale ladder: results of the baseline and the best candidates at rising model sizes, and how far they agree.

A program that wins in a small model after a minute may lose in a large one after an hour. Each scale is a separate
confirmation (`confirmation`): fresh seeds, paired with the baseline's, scored on the test text. Two scales are compared
by the rank correlations of the programs that both ranked. Noise lowers the correlations: programs that cannot be
distinguished are in random order at each scale. So a low correlation is evidence only if the programs differ clearly.

The lowest scale is the size of the run itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ...models.config import ModelConfig
from ...system.plurals import pluralize
from ..config import RunConfig
from .confirmation import Confirmation, Retraining, confirmations, read_retraining, read_retrainings
from .statistics import rank_correlations

if TYPE_CHECKING:
    from ..runs.records import Event

__all__ = ["INCOMPATIBLE", "Agreement", "Ladder", "Scale", "ScaleResult", "build_ladder"]

INCOMPATIBLE = "rejected:size"
"""Outcome of a program that is invalid at the size of a scale."""

MIN_PROGRAMS = 3
"""Smallest number of programs for a rank correlation; for two it is always 1 or -1."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Size of a model and of its training.

    Attributes:
        layers, unit, length: sizes of the model, as in `ModelConfig`.
        batch: sequences in a batch.
        learning_rate: peak learning rate.
        budget: budget of one training, in the unit `clock`.
        clock: unit of the budget, as in `TrialConfig`.
        devices: devices of one training.
    """

    layers: int
    unit: int
    length: int
    batch: int
    learning_rate: float
    budget: float
    clock: str
    devices: int = 1

    @staticmethod
    def of(config: RunConfig) -> Scale:
        """Return the scale of a configuration."""
        model, trial = config.model, config.trial
        rate = config.optimizer.learning_rate
        sizes = model.layers, model.unit, model.length
        return Scale(*sizes, trial.batch, rate, trial.budget, trial.unit, trial.devices)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `Scale(**values)` reads them back."""
        return asdict(self)

    @property
    def width(self) -> int:
        """Channels of the block's input and output."""
        return ModelConfig(unit=self.unit).width

    @property
    def label(self) -> str:
        """Layers, width and budget as text."""
        budget = f"{self.budget:g} {'steps' if self.clock == 'steps' else 's'}"
        devices = f" on {self.devices} devices" if self.devices > 1 else ""
        return f"{pluralize(self.layers, 'layer')} of width {self.width}, {budget}{devices}"

    @property
    def size(self) -> tuple[float, ...]:
        """Sort key: number of block weights up to a constant factor, then the settings that make a training longer."""
        return self.layers * self.unit**2, self.budget, self.length, self.batch, self.learning_rate, self.devices


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """One program at one scale.

    Attributes:
        result: retrainings at this scale, compared with the baseline's.
        unfit: why the program cannot be trained at this size; empty if it can.
        rescaled: whether its query scale was adapted to the width.
    """

    result: Confirmation
    unfit: str = ""
    rescaled: bool = False

    @property
    def verdict(self) -> str:
        """The comparison with the baseline at this scale as text."""
        return f"does not fit: {self.unfit}" if self.unfit else self.result.verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        fit = {"verdict": self.verdict, "unfit": self.unfit or None, "rescaled": self.rescaled}
        return {**self.result.to_dict(), **fit}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two scales on the order of programs.

    Attributes:
        lower, upper: indices of the scales in the ladder.
        programs: number of programs that both scales ranked, including the baseline.
        kendall_tau, spearman_rho: 1 for the same order, -1 for the opposite; None for too few programs.
    """

    lower: int
    upper: int
    programs: int
    kendall_tau: float | None
    spearman_rho: float | None


@dataclass(frozen=True, slots=True)
class Ladder:
    """Results at several scales.

    Attributes:
        scales: scales from the smallest to the largest.
        results: results at each scale, best first.
        agreements: rank correlations of all pairs of scales.
    """

    scales: tuple[Scale, ...]
    results: tuple[tuple[ScaleResult, ...], ...]
    agreements: tuple[Agreement, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Each scale as text, with every setting that differs between scales."""
        words = {"length": "length", "batch": "batch", "learning_rate": "learning rate"}
        differ = [name for name in words if len({getattr(scale, name) for scale in self.scales}) > 1]
        return tuple(
            ", ".join([scale.label, *(f"{words[name]} {getattr(scale, name):g}" for name in differ)])
            for scale in self.scales
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all programs, in the order of the largest scale that ranks them."""
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
        """Return the result of a program at a scale, or None if it was not trained there."""
        return next((entry for entry in self.results[place] if entry.result.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "scales": [
                {**scale.to_dict(), "width": scale.width, "programs": [entry.to_dict() for entry in results]}
                for scale, results in zip(self.scales, self.results, strict=True)
            ],
            "agreements": [asdict(agreement) for agreement in self.agreements],
            "better_everywhere": list(self.better_everywhere),
        }


def build_ladder(manifest: Mapping[str, Any], events: Iterable[Event]) -> Ladder | None:
    """Return the ladder from a run's events, or None if nothing was trained at another scale."""
    events = list(events)
    trained: dict[Scale, list[Retraining]] = {}
    rescaled: set[tuple[Scale, str]] = set()
    for event in events:
        if event.kind == "retrained_at_scale":
            scale, retraining = Scale(**event.payload["scale"]), read_retraining(event)
            trained.setdefault(scale, []).append(retraining)
            if event.payload["rescaled"]:
                rescaled.add((scale, retraining.name))
    if not trained:
        return None
    if retrainings := read_retrainings(events):
        own = Scale.of(RunConfig.from_dict(manifest["config"]))
        budget = retrainings[-1].budget
        trained[replace(own, budget=budget)] = [each for each in retrainings if each.budget == budget]
    scales = tuple(sorted(trained, key=lambda scale: scale.size))
    results = tuple(
        _results_at_scale(trained[scale], {name for at, name in rescaled if at == scale}) for scale in scales
    )
    pairs = combinations(range(len(scales)), 2)
    return Ladder(scales, results, tuple(_agreement(results, lower, upper) for lower, upper in pairs))


def _results_at_scale(retrainings: Sequence[Retraining], rescaled: set[str]) -> tuple[ScaleResult, ...]:
    unfit = {each.name: each.evaluation.message for each in retrainings if each.evaluation.outcome == INCOMPATIBLE}
    rows = confirmations(retrainings)
    return tuple(ScaleResult(row, unfit.get(row.name, ""), row.name in rescaled) for row in rows)


def _agreement(results: Sequence[Sequence[ScaleResult]], lower: int, upper: int) -> Agreement:
    ranks = [
        {entry.result.name: entry.result.rank for entry in results[place] if entry.result.rank is not None}
        for place in (lower, upper)
    ]
    shared = [name for name in ranks[0] if name in ranks[1]]
    first, second = ([found[name] for name in shared] for found in ranks)
    correlations = rank_correlations(first, second) if len(shared) >= MIN_PROGRAMS else None
    return Agreement(lower, upper, len(shared), *(correlations or (None, None)))
