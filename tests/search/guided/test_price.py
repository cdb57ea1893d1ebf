"""Prices: 0 for the baseline, from counts before a timing, and timings by their precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.guided.price import COUNT_PRIOR, MODEL_SD, TIMING_SD, PriceModel, StepCounts, step_counts
from primer_search.workers.protocol import Evaluation

BASELINE: StepCounts = (5e8, 2e8, 8e5)


def scaled(*factors: float) -> StepCounts:
    flops, nbytes, transcendentals = (count * factor for count, factor in zip(BASELINE, factors, strict=True))
    return flops, nbytes, transcendentals


@given(st.lists(st.floats(0.5, 2.0), max_size=5))
def test_price_of_the_baseline_is_0_whatever_was_timed(timings: list[float]) -> None:
    model = PriceModel(BASELINE)
    for timing in timings:
        model.record(BASELINE, timing)
    estimate = model.estimate(BASELINE, timings)
    assert (estimate.mean, estimate.sd) == (0.0, 0.0)


@given(st.tuples(*[st.floats(0.5, 2.0)] * 3))
def test_counts_give_the_price_before_any_timing(factors: tuple[float, float, float]) -> None:
    estimate = PriceModel(BASELINE).estimate(scaled(*factors))
    expected = sum(prior.mean * math.log(factor) for prior, factor in zip(COUNT_PRIOR, factors, strict=True))
    assert estimate.mean == pytest.approx(expected, abs=1e-4)
    if max(abs(math.log(factor)) for factor in factors) > 1e-6:
        assert estimate.sd >= MODEL_SD


def test_exponents_are_learned_from_the_runs_timings() -> None:
    rng, model = np.random.default_rng(0), PriceModel(BASELINE)
    for _ in range(200):
        factors = rng.uniform(0.6, 1.6, 3)
        model.record(scaled(*factors), float(np.prod(factors ** (0.2, 0.7, 0.0)) * np.exp(rng.normal(0, 0.02))))
    estimate = model.estimate(scaled(1.5, 1.2, 1.3))
    assert estimate.mean == pytest.approx(0.2 * math.log(1.5) + 0.7 * math.log(1.2), abs=0.02)
    assert estimate.sd < MODEL_SD


@given(st.floats(0.7, 1.5), st.integers(1, 50))
def test_timings_weigh_by_their_precision(timing: float, trainings: int) -> None:
    model, counts = PriceModel(BASELINE), scaled(1.2, 1.1, 1.0)
    prior, estimate = model.estimate(counts), model.estimate(counts, [timing] * trainings)
    share = (trainings / TIMING_SD**2) / (trainings / TIMING_SD**2 + prior.sd**-2)
    assert estimate.mean == pytest.approx((1 - share) * prior.mean + share * math.log(timing))
    assert estimate.sd == pytest.approx(math.sqrt(1.0 / (trainings / TIMING_SD**2 + prior.sd**-2)))


def test_noisy_timings_of_the_baseline_lower_the_weight_of_timings() -> None:
    quiet, noisy = PriceModel(BASELINE), PriceModel(BASELINE)
    for deviation in (0.01, -0.01) * 10:
        quiet.record(BASELINE, math.exp(deviation))
        noisy.record(BASELINE, math.exp(20 * deviation))
    assert quiet.timing_sd < TIMING_SD < noisy.timing_sd
    counts = scaled(1.0, 1.0, 1.1)
    assert quiet.estimate(counts, [1.5]).mean > noisy.estimate(counts, [1.5]).mean


def test_counts_of_an_evaluation_are_missing_before_compilation() -> None:
    assert step_counts(Evaluation("rejected:finiteness")) is None
    assert step_counts(Evaluation("ok", step_flops=3.0, step_bytes=2.0, step_transcendentals=0.0)) == (3.0, 2.0, 0.0)


def test_a_disturbed_timing_hardly_moves_the_prices_of_other_programs() -> None:
    rng, calm, disturbed = np.random.default_rng(1), PriceModel(BASELINE), PriceModel(BASELINE)
    for place in range(40):
        factors = rng.uniform(0.7, 1.4, 3)
        timing = float(np.prod(factors ** (0.5, 0.4, 0.1)) * np.exp(rng.normal(0, 0.02)))
        calm.record(scaled(*factors), timing)
        disturbed.record(scaled(*factors), timing * (3.0 if place % 10 == 5 else 1.0))
    one, other = (model.estimate(scaled(1.2, 1.2, 1.2)) for model in (calm, disturbed))
    assert other.mean == pytest.approx(one.mean, abs=0.03)
    assert other.sd < 2 * one.sd
