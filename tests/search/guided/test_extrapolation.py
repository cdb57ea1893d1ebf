"""Predicted final losses: exact on linear curves, honest about their error, and led by the prior at first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer_search.search.guided.extrapolation import COEFFICIENT_MEANS, LossPredictor

SEEDS = st.integers(0, 2**32 - 1)


def curves(
    rng: np.random.Generator, count: int, noise_sd: float, value: float = -0.2, slope: float = 0.6
) -> np.ndarray:
    """Return losses [training, point] at two points and the end, where the end is linear in value and slope."""
    first = rng.normal(5.0, 0.1, count)
    second = first - rng.normal(0.5, 0.1, count)
    final = second - 0.7 + value * (second - 4.5) + slope * (second - first) + rng.normal(0, noise_sd, count)
    return np.stack([first, second, final], axis=1)


def fitted(trainings: np.ndarray) -> LossPredictor:
    predictor = LossPredictor(trainings.shape[1] - 1)
    for losses in trainings:
        predictor.record(tuple(losses[:-1]), losses[-1])
    return predictor


def test_there_is_no_model_before_the_first_training() -> None:
    assert LossPredictor(2).model(0) is None


@settings(max_examples=20)
@given(SEEDS, st.floats(-0.5, 0.5), st.floats(0.0, 2.0))
def test_linear_curves_are_predicted_exactly(seed: int, value: float, slope: float) -> None:
    rng = np.random.default_rng(seed)
    model = fitted(curves(rng, 300, 0.0, value, slope)).model(1)
    assert model is not None
    for first, second, final in curves(rng, 10, 0.0, value, slope):
        assert model.predict((first, second)).mean == pytest.approx(final, abs=0.005)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 40))
def test_weights_and_offset_say_the_same_as_the_prediction(seed: int, count: int) -> None:
    """A trial gets weights and offset; the search predicts."""
    trainings = curves(np.random.default_rng(seed), count, 0.02)
    for point in (0, 1):
        model = fitted(trainings).model(point)
        assert model is not None
        losses = tuple(trainings[0, : point + 1])
        weighted = float(np.dot(model.weights, losses[-len(model.weights) :])) + model.offset
        assert model.predict(losses).mean == pytest.approx(weighted)


def test_one_training_leaves_the_coefficients_at_their_prior() -> None:
    model = fitted(curves(np.random.default_rng(0), 1, 0.0)).model(1)
    assert model is not None
    assert model.coefficients == pytest.approx(COEFFICIENT_MEANS)


def test_data_replace_the_prior() -> None:
    """The distance of the coefficients from the truth decreases with the number of trainings."""
    trainings = curves(np.random.default_rng(1), 400, 0.02)
    errors = []
    for count in (2, 20, 400):
        model = fitted(trainings[:count]).model(1)
        assert model is not None
        errors.append(np.abs(np.subtract(model.coefficients, (-0.2, 0.6))).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize(("trainings", "least", "most"), [(8, 0.60, 0.97), (100, 0.62, 0.74)])
def test_predicted_standard_deviation_is_calibrated(trainings: int, least: float, most: float) -> None:
    """About 68% of new trainings end within one standard deviation; few trainings keep the careful prior of noise."""
    rng, hits = np.random.default_rng(2), []
    for _ in range(40):
        model = fitted(curves(rng, trainings, 0.03)).model(1)
        assert model is not None
        for first, second, final in curves(rng, 25, 0.03):
            predicted = model.predict((first, second))
            hits.append(abs(final - predicted.mean) < predicted.sd)
    assert least < np.mean(hits) < most


def test_a_training_unlike_all_others_is_predicted_with_less_certainty() -> None:
    model = fitted(curves(np.random.default_rng(3), 20, 0.03)).model(1)
    assert model is not None
    assert model.predict((6.5, 6.4)).sd > 1.5 * model.predict((5.0, 4.5)).sd
    assert model.predict(tuple(model.means[0] - np.array([model.means[1], 0.0]))).sd == pytest.approx(model.typical_sd)


def test_a_model_is_fitted_again_after_a_new_training() -> None:
    predictor = fitted(curves(np.random.default_rng(4), 5, 0.0))
    before = predictor.model(0)
    predictor.record((5.0, 4.5), 9.0)
    after = predictor.model(0)
    assert before is not None and after is not None
    assert (before.trainings, after.trainings, predictor.trainings) == (5, 6, 6)
    assert after.intercept > before.intercept


def test_a_training_that_diverges_late_does_not_widen_the_intervals_of_the_others() -> None:
    trainings = curves(np.random.default_rng(5), 60, 0.02)
    outliers = trainings.copy()
    outliers[::20, -1] += 1.5
    calm, disturbed = fitted(trainings).model(1), fitted(outliers).model(1)
    assert calm is not None and disturbed is not None
    assert disturbed.typical_sd < 2 * calm.typical_sd
    assert disturbed.predict((5.0, 4.5)).mean == pytest.approx(calm.predict((5.0, 4.5)).mean, abs=0.01)
