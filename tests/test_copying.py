"""The benchmark of copying tells tokens that repeat a pair of their sequence from all others."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from primer_search.benchmarks.copying import is_repeated


def test_a_target_is_repeated_if_its_pair_occurs_earlier_in_its_sequence() -> None:
    sequence = [1, 2, 3, 1, 2, 2, 3, 2]  # targets begin with the second token
    pairs = list(pairwise(sequence))
    expected = [pair in pairs[:place] for place, pair in enumerate(pairs)]
    assert expected == [False, False, False, True, False, True, False]
    other = [5, 6, 7, 8, 9, 1, 2, 3]  # pairs of another sequence do not count
    found = is_repeated(np.array([[sequence, other]]))
    assert found.shape == (1, 2, 7)
    assert found[0, 0].tolist() == expected
    assert not found[0, 1].any()


def test_a_token_that_repeats_itself_counts_from_the_second_pair_on() -> None:
    assert is_repeated(np.array([[[4, 4, 4, 4]]])).tolist() == [[[False, True, True]]]
