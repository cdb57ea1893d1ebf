"""Prices: from counts before a timing, and timings by their precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.guided.price import COUNT_PRIOR, MODEL_SD, TIMING_SD, PriceModel, Timing
from primer_search.workers.price_prior import StepCounts, log_price_at_hurdle
from primer_search.workers.protocol import Evaluation

BASELINE: StepCounts = (5e8, 2e8, 8e5)


def scaled(*factors: float) -> StepCounts:
    flops, nbytes, transcendentals = (count * factor for count, factor in zip(BASELINE, factors, strict=True))
    return flops, nbytes, transcendentals


def timed_program(rng: np.random.Generator, noise: float) -> tuple[StepCounts, float]:
    """Random counts, and a timing that follows from them except for noise."""
    factors = rng.uniform(0.7, 1.4, 3)
    return scaled(*factors), float(np.prod(factors ** (0.5, 0.4, 0.1)) * np.exp(rng.normal(0, noise)))


def test_a_program_with_the_counts_of_the_baseline_has_the_price_of_its_timings() -> None:
    model = PriceModel(BASELINE)
    assert model.estimate(BASELINE).mean == 0.0 and model.estimate(BASELINE).sd >= MODEL_SD
    timed = model.estimate(BASELINE, [Timing(1.3)] * 100)
    assert timed.mean == pytest.approx(math.log(1.3), rel=0.02)
    at_hurdle = log_price_at_hurdle(model.prior, BASELINE, 1.3, 1.0)
    assert at_hurdle == pytest.approx(model.estimate(BASELINE, [Timing(1.3)]).mean)


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
        timing = float(np.prod(factors ** (0.2, 0.7, 0.0)) * np.exp(rng.normal(0, 0.02)))
        model.record(scaled(*factors), Timing(timing))
    estimate = model.estimate(scaled(1.5, 1.2, 1.3))
    assert estimate.mean == pytest.approx(0.2 * math.log(1.5) + 0.7 * math.log(1.2), abs=0.02)
    assert estimate.sd < MODEL_SD


@given(st.floats(0.7, 1.5), st.integers(1, 50))
def test_timings_weigh_by_their_precision(timing: float, trainings: int) -> None:
    model, counts = PriceModel(BASELINE), scaled(1.2, 1.1, 1.0)
    prior, estimate = model.estimate(counts), model.estimate(counts, [Timing(timing)] * trainings)
    share = (trainings / TIMING_SD**2) / (trainings / TIMING_SD**2 + prior.sd**-2)
    assert estimate.mean == pytest.approx((1 - share) * prior.mean + share * math.log(timing))
    assert estimate.sd == pytest.approx(math.sqrt(1.0 / (trainings / TIMING_SD**2 + prior.sd**-2)))


def test_noisy_timings_of_the_baseline_lower_the_weight_of_timings() -> None:
    quiet, noisy = PriceModel(BASELINE), PriceModel(BASELINE)
    for deviation in (0.01, -0.01) * 10:
        quiet.record_baseline(Timing(math.exp(deviation)))
        noisy.record_baseline(Timing(math.exp(20 * deviation)))
    assert quiet.timing_sd < TIMING_SD < noisy.timing_sd
    counts = scaled(1.0, 1.0, 1.1)
    assert quiet.estimate(counts, [Timing(1.5)]).mean > noisy.estimate(counts, [Timing(1.5)]).mean


def test_counts_of_an_evaluation_are_missing_before_compilation() -> None:
    assert Evaluation("rejected:finiteness").step_counts is None
    assert Evaluation("ok", step_flops=3.0, step_bytes=2.0, step_transcendentals=0.0).step_counts == (3.0, 2.0, 0.0)


def test_a_disturbed_timing_hardly_moves_the_prices_of_other_programs() -> None:
    rng, calm, disturbed = np.random.default_rng(1), PriceModel(BASELINE), PriceModel(BASELINE)
    for place in range(40):
        counts, timing = timed_program(rng, noise=0.02)
        calm.record(counts, Timing(timing))
        disturbed.record(counts, Timing(timing * (3.0 if place % 10 == 5 else 1.0)))
    one, other = (model.estimate(scaled(1.2, 1.2, 1.2)) for model in (calm, disturbed))
    assert other.mean == pytest.approx(one.mean, abs=0.03)
    assert other.sd < 2 * one.sd


def test_timings_are_relative_to_the_baseline_timed_as_a_candidate() -> None:
    model, counts = PriceModel(BASELINE), scaled(1.2, 1.1, 1.0)
    for _ in range(3):
        model.record_baseline(Timing(1.05))
    assert model.bias == pytest.approx(math.log(1.05))
    unbiased = PriceModel(BASELINE).estimate(counts, [Timing(1.2)] * 1000).mean
    assert model.estimate(counts, [Timing(1.05 * 1.2)] * 1000).mean == pytest.approx(unbiased, abs=1e-3)


def test_a_timing_of_a_fifth_of_a_training_weighs_a_fifth() -> None:
    model, counts = PriceModel(BASELINE), scaled(1.2, 1.1, 1.0)
    short, whole = model.estimate(counts, [Timing(1.5, 0.2)] * 5), model.estimate(counts, [Timing(1.5)])
    assert short.mean == pytest.approx(whole.mean) and short.sd == pytest.approx(whole.sd)


def test_short_timings_widen_what_is_learned_less_than_whole_ones() -> None:
    rng, with_short, without = np.random.default_rng(2), PriceModel(BASELINE), PriceModel(BASELINE)
    for place in range(60):
        counts, timing = timed_program(rng, noise=0.03)
        without.record(counts, Timing(timing))
        with_short.record(counts, Timing(timing))
        if place % 3 == 0:
            with_short.record(counts, Timing(timing * float(np.exp(rng.normal(0, 0.15))), 0.05))
    assert with_short.prior.sd < 1.5 * without.prior.sd


def test_a_hurdle_counts_what_an_estimate_of_the_run_would() -> None:
    model, counts = PriceModel(BASELINE), scaled(1.3, 1.0, 1.0)
    for _ in range(50):
        model.record_baseline(Timing(1.04))
        model.record(scaled(1.1, 1.1, 1.1), Timing(1.04 * 1.1))
    at_hurdle = log_price_at_hurdle(model.prior, counts, 1.5, 0.2)
    assert at_hurdle == pytest.approx(model.estimate(counts, [Timing(1.5, 0.2)]).mean)
    assert model.estimate(counts).mean < at_hurdle < math.log(1.5 / 1.04)  # a short timing alone is not believed
    assert log_price_at_hurdle(model.prior, counts, None, 0.2) == pytest.approx(model.estimate(counts).mean)
    assert log_price_at_hurdle(None, counts, 1.5, 0.2) == pytest.approx(math.log(1.5))
    assert log_price_at_hurdle(None, None, None, 0.2) == 0.0
