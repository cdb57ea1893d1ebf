"""The time of the controller's phases, and what is told of it."""

from __future__ import annotations

import time

import pytest

from primer_search.search.runs import controller_time
from primer_search.search.runs.controller_time import ControllerTime


def test_a_slow_disk_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_time, "DISK_SECONDS", 0.2)
    phases = ControllerTime()
    with phases.phase("store"):
        time.sleep(0.3)
    assert phases.slow_disk(elapsed_seconds=1e9) == ""  # a small share of the time
    assert phases.slow_disk(elapsed_seconds=1.0).startswith("writing results waited ")
    assert phases.slow_disk(elapsed_seconds=1.0) == ""
