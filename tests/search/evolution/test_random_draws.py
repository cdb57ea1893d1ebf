"""Draws that mutations share."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.search.evolution.random_draws import draw_weighted


@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_a_draw_by_running_sums_is_the_choice_of_numpy_and_leaves_the_generator_in_the_same_state(count: int) -> None:
    ours, numpys = np.random.default_rng(count), np.random.default_rng(count)
    for _ in range(300):
        weights = ours.random(count)
        numpys.random(count)
        p = weights / weights.sum()
        assert draw_weighted(np.cumsum(p), ours) == numpys.choice(count, p=p)
        assert ours.bit_generator.state == numpys.bit_generator.state
