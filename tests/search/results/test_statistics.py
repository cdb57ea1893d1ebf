"""Intervals agree with textbooks, have the stated coverage, and are None if there are too few values."""

from __future__ import annotations

import math
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.results.statistics import (
    Estimate,
    mean_interval,
    paired_differences,
    pooled_noise,
    prediction_interval,
    rank_correlations,
    simultaneous_level,
    t_quantile,
)

LOSSES = st.floats(1.0, 4.0).map(lambda value: round(value, 6))


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"), [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.99, 4, 4.604), (0.90, 30, 1.697)]
)
def test_quantiles_are_those_of_the_tables(level: float, freedom: int, quantile: float) -> None:
    assert t_quantile(level, freedom) == pytest.approx(quantile, abs=5e-4)


def test_one_training_has_no_interval() -> None:
    assert mean_interval([2.0]) == Estimate(2.0, None, None, 1)
    assert prediction_interval([2.0]) == Estimate(2.0, None, None, 1)
    assert paired_differences({"a": {0: 2.0}, "b": {0: 1.5}}, "a") == {"b": Estimate(-0.5, None, None, 1)}
    assert pooled_noise({"a": {0: 2.0}, "b": {0: 1.5}}) is None
    assert pooled_noise({"a": {0: 2.0, 1: 2.1}}) is None
    assert not Estimate(-0.5, None, None, 1).excludes_zero
    with pytest.raises(ValueError):
        mean_interval([])


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=2, max_size=8))
def test_with_two_arms_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    losses = {name: {seed: pair[place] for seed, pair in enumerate(pairs)} for place, name in enumerate("ab")}
    found = paired_differences(losses, "a")["b"]
    differences = [b - a for a, b in pairs]
    half = t_quantile(0.95, len(pairs) - 1) * stdev(differences) / math.sqrt(len(pairs))
    assert found.mean == pytest.approx(mean(differences))
    assert found.half_width == pytest.approx(half, abs=1e-9)


@given(st.lists(LOSSES, min_size=2, max_size=5), st.floats(-3.0, 3.0))
def test_what_a_seed_does_to_all_arms_leaves_differences_alone(seeds: list[float], shift: float) -> None:
    losses = {"a": dict(enumerate(seeds)), "b": {seed: loss + shift for seed, loss in enumerate(seeds)}}
    found = paired_differences(losses, "a")["b"]
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert found.half_width == pytest.approx(0.0, abs=1e-6)


def test_seeds_without_a_partner_are_left_out() -> None:
    losses = {"a": {0: 2.0, 1: 2.1}, "b": {0: 1.9, 1: 2.0, 9: 100.0}, "c": {9: 1.0}}
    found = paired_differences(losses, "a")
    assert set(found) == {"b"}
    assert found["b"].mean == pytest.approx(-0.1)
    assert found["b"].n == 2


def test_an_arm_with_one_pair_borrows_no_interval_from_others() -> None:
    losses = {"a": {0: 2.0, 1: 2.1}, "b": {0: 1.9, 1: 2.05}, "c": {0: 1.0}}
    found = paired_differences(losses, "a")
    assert found["c"] == Estimate(-1.0, None, None, 1)
    assert found["b"].low is not None


def _table(rng: np.random.Generator, arms: int, seeds: int) -> dict[str, dict[int, float]]:
    shared = rng.normal(0.0, 5.0, seeds)
    return {str(arm): {s: float(shared[s] + rng.normal(0.0, 0.1)) for s in range(seeds)} for arm in range(arms)}


def test_pooled_intervals_cover_at_their_level(rng: np.random.Generator) -> None:
    found = [paired_differences(_table(rng, 5, 3), "0")["3"] for _ in range(1500)]
    covered = mean(not estimate.excludes_zero for estimate in found)
    assert 0.93 < covered < 0.97
    pooled = mean(estimate.half_width or 0.0 for estimate in found)
    alone = mean(paired_differences(_table(rng, 2, 3), "0")["1"].half_width or 0.0 for _ in range(300))
    assert pooled < 0.7 * alone


def test_simultaneous_intervals_hold_for_the_best_of_many(rng: np.random.Generator) -> None:
    def share_of_false_winners(simultaneous: bool) -> float:
        wrong = 0
        for _ in range(600):
            found = paired_differences(_table(rng, 9, 3), "0", simultaneous=simultaneous)
            wrong += min(found.values(), key=lambda estimate: estimate.mean).excludes_zero
        return wrong / 600

    assert share_of_false_winners(True) < 0.06
    assert share_of_false_winners(False) > 0.08
    assert simultaneous_level(0.95, 1) == 0.95


def test_prediction_intervals_cover_one_more_training(rng: np.random.Generator) -> None:
    inside = []
    for _ in range(1500):
        *known, new = map(float, rng.normal(size=4))
        found = prediction_interval(known)
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= new <= found.high)
    assert 0.93 < mean(inside) < 0.97


def test_missing_cells_leave_the_noise_unbiased(rng: np.random.Generator) -> None:
    variances = []
    for _ in range(400):
        table = _table(rng, 4, 4)
        del table["1"][0], table["2"][3]
        noise = pooled_noise(table)
        assert noise is not None
        assert noise.freedom == 7
        variances.append(noise.sigma**2)
    assert mean(variances) == pytest.approx(0.01, rel=0.12)


def test_rank_correlations_are_those_of_their_definitions_with_ties() -> None:
    """Signs of all pairs: tau-b is their correlation, and an item's rank is half its sum of signs, up to a constant."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = rng.integers(0, 8, (2, int(rng.integers(3, 12)))).astype(float).tolist()
        found = rank_correlations(first, second)
        if min(len(set(first)), len(set(second))) < 2:
            assert found is None
            continue
        x, y = (np.sign(np.subtract.outer(values, values)) for values in (first, second))
        tau, rho = (
            float((a * b).sum()) / math.sqrt(float((a * a).sum() * (b * b).sum()))
            for a, b in ((x, y), (x.sum(1), y.sum(1)))
        )
        assert found == pytest.approx((tau, rho), rel=0.0, abs=1e-12)


def test_equal_values_and_too_few_have_no_rank_correlation() -> None:
    assert rank_correlations([1.0, 1.0], [1.0, 2.0]) is None
    assert rank_correlations([1.0], [1.0]) is None
    assert rank_correlations([], []) is None
