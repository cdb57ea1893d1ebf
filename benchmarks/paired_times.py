"""Interleaved timing of alternatives in one process, compared in pairs, for machines with other load.

A round times each alternative once, and every other round runs in reverse order, so that slow minutes affect all of
them. On a CPU, times are CPU times of this process, which other load affects least; elsewhere they are wall-clock
times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

__all__ = ["Ratio", "Run", "clock", "paired_ratio", "run_interleaved", "timed_run"]

Run = Callable[[], float]
"""Function that runs a warm alternative and returns the seconds of one step."""

WARM_STEPS = 3


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of paired ratios, and its 95% interval."""

    median: float
    low: float
    high: float


def run_interleaved(runs: Mapping[str, Run], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of a step of each alternative in each round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in reversed(list(runs)) if number % 2 else runs:
            times[name].append(runs[name]())
    return {name: np.array(seconds) for name, seconds in times.items()}


def paired_ratio(times: np.ndarray, others: np.ndarray) -> Ratio:
    """Return the median ratio of `times` to `others`, round by round, with a bootstrap interval over the rounds."""
    ratios = times / others
    draws = np.random.default_rng(0).choice(ratios, size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def timed_run(step: Callable[[], Any], least_seconds: float, most_steps: int = 1000) -> Run:
    """Return a run of enough steps to last `least_seconds` by the clock, after a few warm-up steps.

    Args:
        step: function that takes one step and returns its arrays, which may still be computed asynchronously.
        least_seconds: shortest duration of a run; the clock is too coarse for shorter ones.
        most_steps: largest number of steps in a run.
    """

    def run(steps: int) -> float:
        now = clock()
        start = now()
        arrays = None
        for _ in range(steps):
            arrays = step()
        jax.block_until_ready(arrays)
        return (now() - start) / steps

    run(WARM_STEPS)
    steps = min(most_steps, max(1, math.ceil(least_seconds / max(run(WARM_STEPS), 1e-9))))
    return lambda: run(steps)


def clock() -> Callable[[], float]:
    """Return the clock: CPU time of this process on a CPU, wall clock elsewhere."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter
