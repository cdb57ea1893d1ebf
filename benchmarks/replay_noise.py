"""Errors of measurement on the tape: prices from operation counts, and the noise of losses between random seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.record_tape import Entry

__all__ = ["Price", "SeedNoise", "price_fit", "seed_noise"]


@dataclass(frozen=True, slots=True)
class Price:
    """Linear model of the log price on the logs of the operation counts.

    Attributes:
        trainings: number of timed trainings.
        spread: standard deviation of the log price.
        error: root mean square error, leave one out.
        median_error: median absolute error, leave one out.
        explained: share of the variance that is explained, leave one out.
        exponents: exponents of floating-point operations, bytes and transcendental functions.
    """

    trainings: int
    spread: float
    error: float
    median_error: float
    explained: float
    exponents: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """Noise of the final loss between trainings of the same program.

    Attributes:
        source: `repeat` or `library`.
        programs: programs with at least two trainings.
        sd: pooled standard deviation in nats.
        drift: mean of later trainings minus the first. It is positive if programs are repeated because their first
            training was good.
    """

    source: str
    programs: int
    sd: float
    drift: float


def price_fit(counts: np.ndarray, prices: np.ndarray) -> Price:
    """Fit log prices by least squares, with an intercept; programs without a timing are left out."""
    timed = np.isfinite(prices) & (counts > 0).all(axis=1)
    target, logs = np.log(prices[timed]), np.log(counts[timed])
    features = np.column_stack([np.ones(len(target)), logs - logs.mean(axis=0)])
    projection = features @ np.linalg.pinv(features)
    left_out = (target - projection @ target) / (1.0 - np.diag(projection))
    exponents = np.linalg.pinv(features) @ target
    return Price(
        trainings=len(target),
        spread=float(target.std(ddof=1)),
        error=float(np.sqrt(np.mean(left_out**2))),
        median_error=float(np.median(np.abs(left_out))),
        explained=float(1.0 - np.mean(left_out**2) / target.var(ddof=1)),
        exponents=tuple(map(float, exponents[1:])),
    )


def seed_noise(entries: Sequence[Entry]) -> list[SeedNoise]:
    """Return the noise by source, for the sources with repeated trainings."""
    trainings: defaultdict[str, list[float]] = defaultdict(list)
    library = {entry.name for entry in entries if entry.kind == "library"}
    for entry in entries:
        if math.isfinite(entry.final_loss):
            trainings[entry.name].append(entry.final_loss)
    groups: dict[str, list[list[float]]] = {"repeat": [], "library": []}
    for name, losses in trainings.items():
        if len(losses) > 1:
            groups["library" if name in library else "repeat"].append(losses)
    return [_pooled(source, found) for source, found in groups.items() if found]


def _pooled(source: str, groups: Sequence[Sequence[float]]) -> SeedNoise:
    squares = sum(float(np.var(losses)) * len(losses) for losses in groups)
    freedom = sum(len(losses) - 1 for losses in groups)
    drift = float(np.mean([np.mean(losses[1:]) - losses[0] for losses in groups]))
    return SeedNoise(source, len(groups), float(np.sqrt(squares / freedom)), drift)
