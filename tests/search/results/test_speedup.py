"""The speedup factor: it recovers a known one, from both sides, and is not claimed where it says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.results.speedup import LossCurve, loss_curve, speedup
from primer_search.workers.protocol import Evaluation

POINTS = tuple(float(point) for point in np.geomspace(4.0, 100.0, 12))


def curve(faster: float = 1.0, shift: float = 0.0, epochs: float = 1.0, exponent: float = -0.1) -> LossCurve:
    """A power law that gets everywhere `faster` times sooner than with 1."""
    losses = tuple(3.0 * (faster * point) ** exponent + shift for point in POINTS)
    return LossCurve(POINTS, tuple(map(round, POINTS)), losses, epochs)


@given(st.floats(0.06, 16.0))
def test_a_known_factor_is_recovered_on_both_sides_of_one(factor: float) -> None:
    found = speedup([curve(factor)], [curve()])
    assert found.factor == pytest.approx(factor, rel=2e-3)
    assert (found.low, found.high, found.bound) == (None, None, "")


def test_a_program_has_factor_one_against_itself() -> None:
    assert speedup([curve(), curve(shift=0.1)], [curve(), curve(shift=0.1)]).factor == pytest.approx(1.0)


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_a_better_program_has_no_smaller_factor(one: float, other: float) -> None:
    low, high = sorted((one, other))
    worse, better = speedup([curve(low)], [curve()]).factor, speedup([curve(high)], [curve()]).factor
    assert worse is not None
    assert better is not None
    assert worse <= better * (1 + 1e-9)


@pytest.mark.parametrize(("faster", "bound"), [(60.0, ">"), (1 / 60.0, "<")])
def test_a_factor_beyond_the_first_point_is_a_bound(faster: float, bound: str) -> None:
    found = speedup([curve(faster)], [curve()])
    assert found.bound == bound
    assert found.factor == pytest.approx(25.0 if bound == ">" else 1 / 25.0)


def test_a_curve_that_rises_again_counts_from_where_it_was_lowest() -> None:
    losses = (3.0, 2.0, 2.5)
    dip = LossCurve((10.0, 50.0, 100.0), (1, 5, 10), losses, 1.0)
    flat = LossCurve((10.0, 50.0, 100.0), (1, 5, 10), (3.0, 2.6, 2.4), 1.0)
    found = speedup([dip], [flat])
    expected = 100.0 / math.exp(math.log(10.0) + 0.6 * math.log(5.0))
    assert found.factor == pytest.approx(expected)


@pytest.mark.parametrize("place", [0, 1])
def test_nothing_is_claimed_past_four_epochs(place: int) -> None:
    curves = [curve(2.0), curve()]
    curves[place] = curve(epochs=4.2)
    found = speedup([curves[0]], [curves[1]])
    assert found.factor is None
    assert "4.2 times" in found.why_none
    assert speedup([curve(epochs=4.0)], [curve()]).factor is not None


def test_nothing_is_claimed_of_nothing() -> None:
    assert speedup([], []).why_none == "no seed trained both to the end"
    with pytest.raises(ValueError, match="pairs"):
        speedup([curve()], [])


def test_the_interval_holds_the_true_factor_as_often_as_it_says(rng: np.random.Generator) -> None:
    held, seeds, trials = 0, 4, 150
    for _ in range(trials):
        noise = rng.normal(0.0, 0.02, (2, seeds))
        found = speedup([curve(1.5, x) for x in noise[0]], [curve(1.0, x) for x in noise[1]])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.5 <= found.high
    assert held / trials > 0.9


def test_pairs_share_their_noise() -> None:
    noise = (-0.2, 0.0, 0.2)
    together = speedup([curve(1.5, x) for x in noise], [curve(1.0, x) for x in noise])
    apart = speedup([curve(1.5, x) for x in noise], [curve(1.0, -x) for x in noise])
    assert together.low is not None
    assert together.high is not None
    assert apart.low is not None
    assert together.low == pytest.approx(1.5, rel=1e-2)
    assert together.high / together.low < 1.01
    assert apart.low < 0.8


def test_of_two_seeds_the_interval_is_students_with_one_degree_of_freedom() -> None:
    found = speedup([curve(1.5), curve(1.4)], [curve(), curve()])
    assert found.factor is not None
    assert found.high is not None
    half = 12.706 * math.log(1.5 / 1.4) / 2
    assert math.log(found.high / found.factor) == pytest.approx(half, rel=0.1)


def test_the_interval_repeats() -> None:
    curves = [curve(1.4, 0.01), curve(1.6, -0.02)], [curve(), curve(1.0, 0.01)]
    assert speedup(*curves) == speedup(*curves)


def test_a_curve_is_read_from_an_evaluation() -> None:
    evaluation = Evaluation(
        "ok",
        loss_nats=2.0,
        hurdle_losses=(4.0, 3.5, 3.0),
        hurdle_steps=(2, 2, 5),
        curve=((1.5, 2, 4.2), (4.0, 6, 3.0), (9.0, 10, 2.1)),
        steps=10,
        spent=9.0,
        epochs=0.5,
    )
    read = loss_curve(evaluation)
    assert read is not None
    assert read.steps == (2, 5, 10)
    assert read.loss_nats == (3.5, 3.0, 2.0)
    assert read.compute == pytest.approx((1.5, 3.375, 9.0))
    assert loss_curve(Evaluation("non_finite")) is None
