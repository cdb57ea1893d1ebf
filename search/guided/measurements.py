"""Measured fitness: the fitness of each candidate from the trainings of a run, relative to the baseline.

A program counts as better only if it is better both at equal steps and at equal time. So fitness is the loss at a fixed
number of steps plus the price of a slower step, `slope * max(0, log(step time / the baseline's))`. The slope is the
decrease of the baseline's loss per factor e of steps. So a slower program must be better by as much as the baseline
would improve if it trained for as long. A faster program gets no credit for its speed, because a search that rewards
speed finds small programs, which look good at equal time and lose at equal steps (docs/discovery.md). A training that
was stopped counts with its predicted loss, and a training that diverged as `LARGEST_FITNESS` above the baseline.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, variance

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID
from .extrapolation import LossPredictor
from .linear_model import Normal
from .price import PriceModel, Timing

__all__ = ["LARGEST_FITNESS", "Measurements"]

LARGEST_FITNESS = 0.1
"""Largest fitness in the model of edits, in nats above the baseline. It is limited because how bad a bad program is
predicts little about good programs. A training that diverged counts with this value in the mean of its program. So a
program that sometimes diverges is not a good parent, and the model of edits learns which edits cause divergence."""

NOISE_SD = 0.016
"""Prior standard deviation of a loss between random seeds, in nats; it counts as `NOISE_WEIGHT` trainings."""

NOISE_WEIGHT = 5


class Measurements:
    """The evaluations of a run, and the fitness of its candidates.

    Args:
        points: shares of the budget at which every training is evaluated.

    Attributes:
        predictor: predicts the final losses of trainings.
        price: estimates prices; None before the first training of the baseline.
    """

    def __init__(self, points: Sequence[float]):
        self.points = tuple(points)
        self.predictor = LossPredictor(len(points))
        self.price: PriceModel | None = None
        self._evaluations: defaultdict[int, list[Evaluation]] = defaultdict(list)
        self._baseline: _Baseline | None = None
        self._full_steps = 0  # steps of a complete training

    def record(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Add the result of one trial."""
        self._evaluations[candidate_id].append(replace(evaluation, curve=()))  # the curve is most of its memory
        if candidate_id == BASELINE_ID:
            self._baseline = None
        loss, losses = evaluation.loss_nats, evaluation.hurdle_losses
        if evaluation.kind == "ok" and loss is not None and len(losses) == len(self.points):
            self.predictor.record(losses, loss)
        counts = evaluation.step_counts
        if counts is None:
            return
        if candidate_id == BASELINE_ID and self.price is None:
            self.price = PriceModel(counts)
            self._full_steps = evaluation.steps
        timing = self._timing(evaluation)
        if self.price is None or timing is None:
            return
        if candidate_id == BASELINE_ID:
            self.price.record_baseline(timing)
        else:
            self.price.record(counts, timing)

    @property
    def candidates(self) -> Iterable[int]:
        """Candidates with a result, in the order of their first results."""
        return self._evaluations.keys()

    @property
    def baseline(self) -> _Baseline:
        """Figures of the baseline's trainings."""
        if self._baseline is None:
            self._baseline = _Baseline(self._evaluations.get(BASELINE_ID, []), self.points[-1])
        return self._baseline

    def losses(self, candidate_id: int) -> list[float]:
        """Return the losses of the complete trainings, in nats per token."""
        return _losses(self._evaluations.get(candidate_id, []))

    def diverged(self, candidate_id: int) -> int:
        """Return the number of trainings that diverged."""
        return sum(each.diverged for each in self._evaluations.get(candidate_id, []))

    def log_price(self, candidate_id: int) -> Normal:
        """Return the logarithm of the step time relative to the baseline's, as an estimate."""
        results = self._evaluations.get(candidate_id, [])
        counts = next(filter(None, (each.step_counts for each in results)), None)
        if self.price is None or counts is None or candidate_id == BASELINE_ID:
            return Normal(0.0, 0.0)
        return self.price.estimate(counts, list(filter(None, map(self._timing, results))))

    def priced(self, candidate_id: int) -> Normal:
        """Return the price of a step in nats; it is 0 for a step that is faster than the baseline's."""
        estimate = self.log_price(candidate_id)
        return Normal(self.baseline.slope * max(0.0, estimate.mean), self.baseline.slope * estimate.sd)

    def fitness(self, candidate_id: int) -> Normal | None:
        """Return the fitness relative to the baseline, with the standard deviation of its error.

        Return None if the baseline has no loss, or the candidate has neither a loss nor a predicted one.
        """
        baseline = self.baseline
        if baseline.loss_nats is None:
            return None
        losses = [*self.losses(candidate_id), *[baseline.loss_nats + LARGEST_FITNESS] * self.diverged(candidate_id)]
        if losses:
            loss, error = fmean(losses), baseline.noise_variance / len(losses)
        else:
            predicted = self._predicted(candidate_id)
            if predicted is None:
                return None
            loss, error = predicted.mean, predicted.sd**2 + baseline.noise_variance
        priced = self.priced(candidate_id)
        error += priced.sd**2 + baseline.noise_variance / baseline.trainings
        return Normal(loss + priced.mean - baseline.loss_nats, math.sqrt(error))

    def _timing(self, evaluation: Evaluation) -> Timing | None:
        """Return the timing of a training, with the share of a complete training that it lasted; None if not timed."""
        if not evaluation.relative_step:
            return None
        known = evaluation.steps and self._full_steps
        return Timing(evaluation.relative_step, min(1.0, evaluation.steps / self._full_steps) if known else 1.0)

    def _predicted(self, candidate_id: int) -> Normal | None:
        """Return the final loss predicted for a training that was stopped."""
        for each in self._evaluations.get(candidate_id, []):
            model = self.predictor.model(len(each.hurdle_losses) - 1) if each.kind == "stopped_at_hurdle" else None
            if model is not None:
                return model.predict(each.hurdle_losses)
        return None


@dataclass(frozen=True)
class _Baseline:
    """Figures of the baseline's trainings.

    Attributes:
        results: its evaluations.
        last_point: share of the budget at the last evaluation before the end.
    """

    results: Sequence[Evaluation]
    last_point: float

    @property
    def trainings(self) -> int:
        """Number of complete trainings."""
        return len(_losses(self.results))

    @cached_property
    def loss_nats(self) -> float | None:
        """Mean loss in nats per token; None before the first complete training."""
        losses = _losses(self.results)
        return fmean(losses) if losses else None

    @cached_property
    def noise_variance(self) -> float:
        """Variance of a loss between random seeds, in nats squared."""
        losses = _losses(self.results)
        freedom = max(len(losses) - 1, 0)
        squares = freedom * variance(losses) if freedom else 0.0
        return (squares + NOISE_WEIGHT * NOISE_SD**2) / (freedom + NOISE_WEIGHT)

    @cached_property
    def slope(self) -> float:
        """Decrease of the loss per factor e of steps, from the last point to the end, in nats; 0 without a training."""
        falls = [
            each.hurdle_losses[-1] - each.loss_nats
            for each in self.results
            if each.kind == "ok" and each.loss_nats is not None and each.hurdle_losses
        ]
        return max(0.0, fmean(falls) / -math.log(self.last_point)) if falls else 0.0


def _losses(results: Iterable[Evaluation]) -> list[float]:
    return [each.loss_nats for each in results if each.kind == "ok" and each.loss_nats is not None]
