"""Calibration of predictions on a run written by hand: only earlier trainings are known, and shares can be counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.guided.extrapolation import LossPredictor
from primer_search.search.guided.stop_rule import MINIMUM_TRAININGS, POINTS
from primer_search.search.reports.pages.run_page import render_report
from primer_search.search.reports.tables.prediction_table import format_calibration
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.trust.prediction_calibration import PredictionCalibration
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, HurdleThreshold, TrialRequest

BUDGET, LIMIT, PLACES = 1000, 3.1, (2, 3)
CONFIG = {
    "model": {"unit": 8, "length": 64},
    "search": {"strategy": "guided"},
    "trial": {"unit": "steps", "price": True, "budget_steps": BUDGET},
}


def losses(final: float, noise: int = 0) -> tuple[float, ...]:
    """Losses at all points that fall by 0.4 nats per factor e of steps; a nonzero number draws noise."""
    draws = np.random.default_rng(noise).normal(0.0, 0.01 * bool(noise), len(POINTS))
    return tuple(final - 0.4 * math.log(point) + draw for point, draw in zip(POINTS, draws, strict=True))


def finished(final: float, noise: int = 0) -> Evaluation:
    return Evaluation("ok", loss_nats=final, bits_per_byte=final / 2, hurdle_losses=losses(final, noise), steps=BUDGET)


class GuidedRun:
    """A store of a guided run; candidates are children of the baseline."""

    def __init__(self, path: Path, strategy: str = "guided"):
        config = {**CONFIG, "search": {"strategy": strategy}}
        self.store = Store.create(path, {"config": config, "workers": 1, "seed": 0})
        self.store.add_candidate(Candidate(0, TRANSFORMER, None, (), "baseline"))

    def start(self, number: int, stoppable: bool = True) -> int:
        if number and number not in self.store.ancestry():
            self.store.add_candidate(Candidate(number, TRANSFORMER, 0, (f"edit {number}",), f"hash {number}"))
        trial = self.store.next_trial_id()
        limits = [LIMIT if stoppable and place in PLACES else None for place in range(len(POINTS))]
        hurdles = tuple(HurdleThreshold(BUDGET * at, limit) for at, limit in zip(POINTS, limits, strict=True))
        self.store.start_trial(TrialRequest(trial, number, "", trial, hurdles))
        return trial

    def train(self, number: int, evaluation: Evaluation, stoppable: bool = True) -> None:
        self.store.finish_trial(self.start(number, stoppable), evaluation)

    def history(self, count: int = MINIMUM_TRAININGS) -> None:
        for number in range(count):
            self.train(0, finished(3.0 + 0.01 * number, noise=number + 1), stoppable=False)

    @property
    def predictions(self) -> PredictionCalibration:
        found = leaderboard(self.store).predictions
        assert found is not None
        return found


def predicted(history: int, final_losses: Sequence[float], place: int) -> float:
    """Return the prediction of a predictor that knows the first trainings of `history` only."""
    predictor = LossPredictor(len(POINTS))
    for number in range(history):
        predictor.record(losses(3.0 + 0.01 * number, number + 1), 3.0 + 0.01 * number)
    model = predictor.model(place)
    assert model is not None
    return model.predict(final_losses[: place + 1]).mean


def test_a_prediction_knows_only_what_had_finished_when_its_training_started(tmp_path: Path) -> None:
    run = GuidedRun(tmp_path)
    run.history(MINIMUM_TRAININGS - 1)
    early = run.start(1)  # it starts before the sixth training has finished, and ends last
    last = MINIMUM_TRAININGS - 1
    run.train(0, finished(3.0 + 0.01 * last, noise=last + 1), stoppable=False)
    run.train(2, finished(3.05))
    run.store.finish_trial(early, finished(3.02))
    checked = run.predictions.checked
    assert [(each.candidate_id, each.share) for each in checked] == [(2, POINTS[place]) for place in PLACES]
    for each, place in zip(checked, PLACES, strict=True):
        assert each.predicted.mean == pytest.approx(predicted(MINIMUM_TRAININGS, losses(3.05), place), abs=1e-12)
        assert each.reached_nats == 3.05
    run.train(3, finished(4.0, noise=99))
    assert run.predictions.checked[:2] == checked, "a later training changes no earlier prediction"


def test_shares_within_the_predicted_deviations_are_counted_for_each_stop(tmp_path: Path) -> None:
    run = GuidedRun(tmp_path)
    run.history(12)
    before = 12 - MINIMUM_TRAININGS
    run.train(1, finished(3.0, noise=50))
    run.train(2, Evaluation("ok", loss_nats=3.5, hurdle_losses=losses(3.0)), stoppable=False)  # far from predicted
    found = run.predictions
    for stop in found.stops:
        here = [each for each in found.checked if each.share == stop.share]
        assert (stop.checked, stop.stopped) == (len(here), 0) == (before + 2, 0)
        assert stop.unstoppable == before + 1
        assert stop.within_one_sd == sum(each.error_sds <= 1 for each in here) / len(here)
        assert stop.within_two_sds == pytest.approx((before + 1) / len(here)), "only the late divergence is outside"
        assert stop.median_error_nats is not None
        assert stop.median_error_nats < 0.02
    assert len(format_calibration(found)) < 250, "a line of the console; the page has the details"


def test_a_stopped_training_has_its_prediction_its_price_and_its_limit(tmp_path: Path) -> None:
    run = GuidedRun(tmp_path)
    run.history()
    run.train(1, Evaluation("stopped_at_hurdle", hurdle_losses=losses(3.2)[:3], steps=350, relative_step=1.25))
    run.train(2, Evaluation("stopped_at_hurdle", hurdle_losses=losses(3.2)[:4], steps=500, relative_step=0.8))
    found = run.predictions
    first, second = found.stopped
    assert [stop.stopped for stop in found.stops] == [1, 1]
    assert (first.candidate_id, first.share, first.limit_nats, first.mutations) == (1, 0.35, LIMIT, ("edit 1",))
    assert first.predicted.mean == pytest.approx(predicted(MINIMUM_TRAININGS, losses(3.2), 2), abs=1e-12)
    assert first.price_nats == pytest.approx(0.4 * math.log(1.25), abs=0.02)
    assert (second.share, second.price_nats) == (0.5, 0.0), "a faster step has no price"


def test_a_run_of_another_strategy_has_no_predictions(tmp_path: Path) -> None:
    run = GuidedRun(tmp_path, strategy="evolution")
    run.history()
    run.train(1, finished(3.0))
    board = leaderboard(run.store)
    assert board.predictions is None
    assert board.to_dict()["predictions"] is None
    assert format_calibration(board.predictions) == ""
    assert "Predictions that stop trainings" not in render_report(run.store)


def test_the_report_shows_the_figure_the_words_and_what_was_stopped(tmp_path: Path) -> None:
    run = GuidedRun(tmp_path)
    run.history(8)
    run.train(1, finished(3.0))
    run.train(2, Evaluation("stopped_at_hurdle", hurdle_losses=losses(3.2)[:3], steps=350))
    page = render_report(run.store)
    for words in (
        "predicted at 35% of the budget",
        "At 35% of the budget, 1 training stopped; 3 reached the end",
        "edit 2",
    ):
        assert words in page
    assert f"{run.predictions.stopped[0].predicted.mean:.4f} ±" in page
