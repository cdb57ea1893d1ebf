"""Times of alternatives on a machine that others use, too: taken in turns in one process, compared in pairs.

A round times each alternative once, and every other round goes backwards: a machine's slow minutes meet all of them.
On a CPU the clock is this process's CPU time, which a shared machine disturbs least; elsewhere it is the wall clock.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ["Ratio", "Run", "clock", "hardware", "paired_ratio", "pin_to_one_core", "run_interleaved", "timed_run"]

Run = Callable[[], float]
"""Runs an alternative, which is warm, and says how many seconds one step of it took."""

WARM_STEPS = 3


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, and its 95% interval."""

    median: float
    low: float
    high: float


def run_interleaved(runs: Mapping[str, Run], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of a step of each alternative in each round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in reversed(list(runs)) if number % 2 else runs:
            times[name].append(runs[name]())
    return {name: np.array(seconds) for name, seconds in times.items()}


def paired_ratio(times: np.ndarray, others: np.ndarray) -> Ratio:
    """How long `times` are in `others` of the same rounds; the interval is by bootstrap over the rounds."""
    ratios = times / others
    draws = np.random.default_rng(0).choice(ratios, size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def timed_run(step: Callable[[], Any], least_seconds: float, most_steps: int = 1000) -> Run:
    """A run of as many steps as last `least_seconds` by the clock, after a few that warm it up.

    Args:
        step: takes one step and returns its arrays, which may still be on their way.
        least_seconds: shorter runs are rounded by the clock.
        most_steps: no run has more.
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
    """CPU time of this process on a CPU, wall clock elsewhere."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def pin_to_one_core() -> None:
    """On a CPU, stay on one core where the system can."""
    if jax.default_backend() == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def hardware(benchmark: str, arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """What the figures were taken on, and the command that took them.

    Args:
        benchmark: name of its file.
        arguments: those it was given; None: those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "command": shlex.join(["python", f"benchmarks/{benchmark}", *given]),
        "device": _processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "clock": "cpu time" if jax.default_backend() == "cpu" else "wall clock",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax")},
    }


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
