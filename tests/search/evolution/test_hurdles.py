"""Halving hurdles: the paper's numbers, and thresholds that follow what was seen."""

from __future__ import annotations

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.evolution.hurdles import Hurdles, hurdle_positions, mean_cost

LOSSES = st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3)
TRIALS = st.lists(st.tuples(LOSSES, st.integers(0, 3)), max_size=30)


def thresholds(hurdles: Hurdles) -> list[float | None]:
    return [threshold.loss_nats for threshold in hurdles.thresholds()]


def test_positions_and_mean_cost_are_the_papers() -> None:
    """Primer, appendix A.2: a budget of seven hours and four hurdles."""
    assert hurdle_positions(25_200, 4) == pytest.approx((812.9, 2438.7, 5690.3, 12193.5), abs=0.05)
    assert mean_cost(25_200, 4) == pytest.approx(4064, abs=1)
    assert 25_200 / mean_cost(25_200, 4) == pytest.approx(6.2, abs=0.05)


@given(st.floats(0.01, 1e6), st.integers(0, 10))
def test_mean_cost_is_that_of_halving_at_every_hurdle(budget: float, n: int) -> None:
    stops = [at * 0.5**i for i, at in enumerate(hurdle_positions(budget, n), start=1)]
    assert mean_cost(budget, n) == pytest.approx(sum(stops) + budget * 0.5**n)


@given(st.floats(0.01, 1e6), st.integers(0, 10))
def test_positions_rise_and_stay_within_the_budget(budget: float, n: int) -> None:
    positions = hurdle_positions(budget, n)
    assert len(positions) == n
    assert list(positions) == sorted(set(positions))
    assert all(0 < at < budget for at in positions)


def test_no_hurdles_cost_the_full_budget() -> None:
    assert hurdle_positions(30.0, 0) == ()
    assert mean_cost(30.0, 0) == 30.0
    assert Hurdles(30.0, 0).thresholds() == ()


@pytest.mark.parametrize(("budget", "n"), [(0.0, 3), (-1.0, 3), (math.nan, 3), (30.0, -1)])
def test_invalid_budgets_and_numbers_of_hurdles_are_refused(budget: float, n: int) -> None:
    with pytest.raises(ValueError, match="hurdles in a budget"):
        hurdle_positions(budget, n)


def test_all_pass_until_enough_reached_a_hurdle() -> None:
    hurdles = Hurdles(30.0, 2, minimum=3)
    hurdles.record((5.0, 4.0))
    hurdles.record((7.0,))
    assert thresholds(hurdles) == [None, None]
    hurdles.record((6.0,))
    assert thresholds(hurdles) == [6.0, None]


def test_only_the_latest_losses_count() -> None:
    hurdles = Hurdles(30.0, 1, window=3, minimum=1)
    for loss in (1.0, 1.0, 9.0, 8.0, 7.0):
        hurdles.record((loss,))
    assert thresholds(hurdles) == [8.0]


@given(TRIALS)
def test_a_threshold_is_the_median_of_those_that_reached_it(trials: list[tuple[list[float], int]]) -> None:
    hurdles = Hurdles(30.0, 3, window=100, minimum=2)
    for losses, reached in trials:
        hurdles.record(tuple(losses[:reached]))
    for place, threshold in enumerate(thresholds(hurdles)):
        seen = [losses[place] for losses, reached in trials if reached > place]
        assert threshold == (median(seen) if len(seen) >= 2 else None)


@given(TRIALS, st.floats(0.0, 5.0))
def test_worse_losses_never_make_a_threshold_stricter(trials: list[tuple[list[float], int]], worse: float) -> None:
    before, after = (Hurdles(30.0, 3, window=10, minimum=1) for _ in range(2))
    for number, (losses, reached) in enumerate(trials):
        before.record(tuple(losses[:reached]))
        after.record(tuple(loss + worse * (number % 2) for loss in losses[:reached]))
    for lenient, strict in zip(thresholds(after), thresholds(before), strict=True):
        assert (lenient is None) == (strict is None)
        assert lenient is None or strict is None or lenient >= strict


def test_losses_after_a_non_finite_one_are_ignored() -> None:
    hurdles = Hurdles(30.0, 3, minimum=1)
    hurdles.record((3.0, math.nan, 1.0))
    assert thresholds(hurdles) == [3.0, None, None]


def test_more_losses_than_hurdles_are_refused() -> None:
    with pytest.raises(ValueError, match="2 losses at 1 hurdles"):
        Hurdles(30.0, 1).record((3.0, 2.0))
