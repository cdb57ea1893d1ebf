"""Cores and processes of the host."""

from __future__ import annotations

import pytest

from primer_search.system import host


@pytest.mark.parametrize(
    ("available", "taken", "count", "picked"),
    [
        ((0, 1, 2, 3), (), 2, (0, 1)),
        ((0, 1, 2, 3), (0, 1), 2, (2, 3)),
        ((4, 6), (4,), 1, (6,)),
        ((0, 1), (0, 1, 0), 1, (1,)),
    ],
)
def test_workers_share_cores_only_when_there_are_too_few(available, taken, count, picked):
    assert host.pick_cores(available, taken, count) == picked
