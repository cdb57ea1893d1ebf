"""The loss below which a result is suspected."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.search.runs.loss_floor import ENVELOPE_SPEEDUP, envelope_nats, loss_floor_nats
from primer_search.workers.protocol import Evaluation


def baseline_trial(exponent: float = 0.1, final: float = 4.0, noise: float = 0.0) -> Evaluation:
    rng = np.random.default_rng(0)
    spent = np.linspace(0.2, 20, 100)
    losses = final * (spent / 20) ** -exponent * np.exp(noise * rng.standard_normal(100))
    curve = tuple((float(at), index, float(loss)) for index, (at, loss) in enumerate(zip(spent, losses, strict=True)))
    return Evaluation("ok", loss_nats=final, curve=curve)


@pytest.mark.parametrize("exponent", [0.05, 0.2])
def test_the_envelope_continues_the_baselines_power_law(exponent: float) -> None:
    expected = 4.0 * ENVELOPE_SPEEDUP**-exponent
    assert envelope_nats([baseline_trial(exponent)]) == pytest.approx(expected)
    assert envelope_nats([baseline_trial(exponent, noise=0.02)] * 3) == pytest.approx(expected, rel=0.02)


def test_what_the_baseline_itself_might_reach_is_not_suspected() -> None:
    bound = loss_floor_nats([baseline_trial(0.1)], None)
    assert bound is not None
    assert bound < 4.0 * 4.2**-0.1  # the largest speedup that the paper reports


def test_the_ngram_floor_counts_where_the_baseline_stays_above_it() -> None:
    assert loss_floor_nats([baseline_trial(0.1)], 3.9) == 3.9
    assert loss_floor_nats([baseline_trial(0.1)], 4.1) == envelope_nats([baseline_trial(0.1)])
    assert loss_floor_nats([baseline_trial(0.1)], 1.0) == envelope_nats([baseline_trial(0.1)])


def test_no_result_is_suspicious_before_the_baseline_has_one() -> None:
    assert loss_floor_nats([], 3.0) is None
    assert loss_floor_nats([Evaluation("non_finite")], 3.0) is None


def test_a_baseline_without_a_curve_leaves_a_generous_bound() -> None:
    bound = loss_floor_nats([Evaluation("ok", loss_nats=4.0)], None)
    assert bound == pytest.approx(4.0 * ENVELOPE_SPEEDUP**-0.5)
