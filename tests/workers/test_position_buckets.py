"""Groups of positions double in size and cover the sequence."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.workers.position_buckets import bucket_means, bucket_names, bucket_starts


@pytest.mark.parametrize("length", [1, 2, 3, 8, 100, 128, 1000])
def test_groups_cover_all_positions_once(length: int) -> None:
    starts = bucket_starts(length)
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < length
    assert len(bucket_names(length)) == len(starts) == len(bucket_means(np.zeros(length)))
    assert bucket_names(length)[-1].split("-")[-1] == str(length)


def test_each_group_has_the_mean_of_its_positions() -> None:
    assert bucket_means(np.arange(8.0)) == (0.0, 1.5, 5.0)
    assert bucket_names(8) == ["1", "2-3", "4-8"]
