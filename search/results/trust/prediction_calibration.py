"""Calibration of the predictions by which a guided search stops trainings: predicted against reached losses.

A training is predicted from what was known at its start: the events are replayed in order, and the predictor knows the
trainings that had finished by then. Two groups of trainings reach the end although a prediction existed: trainings that
passed the stops, and trainings that could not be stopped (the baseline, repeated trainings, and a random share of the
candidates). Only the second group is free of selection, but both are counted, because the first is large.

If the predictions are calibrated, 68% of the reached losses lie within one predicted standard deviation and 95% within
two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ....workers.price_prior import PricePrior, log_price_at_hurdle
from ....workers.protocol import Evaluation, HurdleThreshold
from ...guided.extrapolation import PointModel
from ...guided.linear_model import Normal
from ...guided.make_strategy import GUIDED_STRATEGIES
from ...guided.measurements import Measurements
from ...guided.stop_rule import MINIMUM_TRAININGS

if TYPE_CHECKING:
    from ...runs.records import Ancestor, Event, FinishedTrial

__all__ = ["CheckedPrediction", "PredictionCalibration", "Stop", "StoppedTraining", "calibrate_predictions"]


@dataclass(frozen=True, slots=True)
class CheckedPrediction:
    """The prediction of a training that reached the end.

    Attributes:
        candidate_id: candidate.
        share: share of the budget at the prediction.
        predicted: predicted final loss, in nats per token.
        reached_nats: final loss.
        stoppable: whether the training had to pass the stop.
    """

    candidate_id: int
    share: float
    predicted: Normal
    reached_nats: float
    stoppable: bool

    @property
    def error_sds(self) -> float:
        """Distance of the reached loss from the predicted one, in predicted standard deviations."""
        return abs(self.reached_nats - self.predicted.mean) / self.predicted.sd


@dataclass(frozen=True, slots=True)
class StoppedTraining:
    """A training that was stopped because of its prediction.

    Attributes:
        candidate_id: candidate.
        mutations: edits that made it from its parent.
        share: share of the budget after which it stopped.
        predicted: predicted final loss, in nats per token.
        price_nats: price of its step, which is added to the loss.
        limit_nats: value that the predicted loss plus the price had to be below.
    """

    candidate_id: int
    mutations: tuple[str, ...]
    share: float
    predicted: Normal
    price_nats: float
    limit_nats: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Results at one stop.

    Attributes:
        share: share of the budget.
        stopped: number of trainings that stopped there.
        checked: number of trainings with a prediction there that reached the end.
        unstoppable: number of those that could not be stopped there.
        median_error_nats: median distance of the reached from the predicted loss; None if none was checked.
        within_one_sd, within_two_sds: shares of the checked trainings; None if none was checked.
    """

    share: float
    stopped: int
    checked: int
    unstoppable: int
    median_error_nats: float | None
    within_one_sd: float | None
    within_two_sds: float | None


@dataclass(frozen=True, slots=True)
class PredictionCalibration:
    """Outcomes of the predictions of a run.

    Attributes:
        stops: results at each stop, in order of the budget.
        checked: predictions of the trainings that reached the end, in order of arrival.
        stopped: trainings that were stopped, in order of arrival.
    """

    stops: tuple[Stop, ...]
    checked: tuple[CheckedPrediction, ...]
    stopped: tuple[StoppedTraining, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """Knowledge of the search when a training started: a model for each stop, and the price of slower steps."""

    models: Mapping[int, PointModel]
    slope: float
    price_prior: PricePrior | None = None


def calibrate_predictions(
    manifest: Mapping[str, Any],
    ancestry: Mapping[int, Ancestor],
    events: Sequence[Event],
    finished: Sequence[FinishedTrial],
    hurdles: Mapping[int, Sequence[HurdleThreshold]],
) -> PredictionCalibration | None:
    """Return the calibration of a run's predictions; None for other strategies, and before any training may be stopped.

    Args:
        manifest: manifest of the run.
        ancestry: candidates of the run, by id.
        events: events of the run, in order of arrival.
        finished: finished trials of the run.
        hurdles: hurdles of each trial, by trial id.
    """
    config = manifest.get("config", {})
    if config.get("search", {}).get("strategy") not in GUIDED_STRATEGIES:
        return None
    stops = {place for each in hurdles.values() for place, hurdle in enumerate(each) if hurdle.loss_nats is not None}
    if not stops:
        return None
    points = max(hurdles.values(), key=len)
    shares = [hurdle.at / float(config["trial"]["budget_steps"]) for hurdle in points]
    checked: list[CheckedPrediction] = []
    stopped: list[StoppedTraining] = []
    for trial, known in _with_knowledge(shares, stops, events, finished):
        number, result, own = trial.candidate_id, trial.evaluation, hurdles.get(trial.trial_id, ())
        if result.kind == "ok" and result.loss_nats is not None:
            checked += [
                CheckedPrediction(number, shares[place], predicted, result.loss_nats, own[place].loss_nats is not None)
                for place, predicted in _predictions(result, known, range(len(own)))
            ]
        elif result.kind == "stopped_at_hurdle":
            last = len(result.hurdle_losses) - 1
            limit = own[last].loss_nats if 0 <= last < len(own) else None
            stopped += [
                StoppedTraining(
                    number,
                    ancestry[number].mutations,
                    shares[place],
                    predicted,
                    _price(result, known, shares[place]),
                    limit,
                )
                for place, predicted in _predictions(result, known, [last])
                if limit is not None
            ]
    return PredictionCalibration(
        tuple(_stop(shares[place], checked, stopped) for place in sorted(stops)), tuple(checked), tuple(stopped)
    )


def _with_knowledge(
    shares: Sequence[float], stops: Iterable[int], events: Sequence[Event], finished: Sequence[FinishedTrial]
) -> Iterator[tuple[FinishedTrial, _Knowledge]]:
    """Yield the finished trials in order of arrival, each with what was known at its start."""
    results = {trial.sequence: trial for trial in finished}
    measured = Measurements(shares)
    at_start: dict[int | None, _Knowledge] = {}
    now = _Knowledge({}, 0.0)
    for event in events:
        if event.kind == "started":
            at_start[event.trial_id] = now
        elif event.kind == "evaluated" and event.sequence in results:
            trial = results[event.sequence]
            if event.trial_id in at_start:
                yield trial, at_start.pop(event.trial_id)
            measured.record(trial.candidate_id, trial.evaluation)
            if trial.evaluation.kind == "ok" and measured.predictor.trainings >= MINIMUM_TRAININGS:
                models = {place: measured.predictor.model(place) for place in stops}
                known = {place: model for place, model in models.items() if model is not None}
                prior = None if measured.price is None else measured.price.prior
                now = _Knowledge(known, measured.baseline.slope, prior)


def _predictions(result: Evaluation, known: _Knowledge, places: Iterable[int]) -> Iterator[tuple[int, Normal]]:
    """Yield the predictions at the places that are stops and have a model."""
    for place in places:
        if place in known.models and place < len(result.hurdle_losses):
            yield place, known.models[place].predict(result.hurdle_losses[: place + 1])


def _price(result: Evaluation, known: _Knowledge, share: float) -> float:
    log_price = log_price_at_hurdle(known.price_prior, result.step_counts, result.relative_step, share)
    return known.slope * max(0.0, log_price)


def _stop(share: float, checked: Sequence[CheckedPrediction], stopped: Sequence[StoppedTraining]) -> Stop:
    here = [each for each in checked if each.share == share]
    return Stop(
        share,
        sum(each.share == share for each in stopped),
        len(here),
        sum(not each.stoppable for each in here),
        median(abs(each.reached_nats - each.predicted.mean) for each in here) if here else None,
        fmean(each.error_sds <= 1.0 for each in here) if here else None,
        fmean(each.error_sds <= 2.0 for each in here) if here else None,
    )
