"""Statistics of repeated trainings: intervals for means, paired differences and further trainings.

The results of a study form a table of programs (arms) by seeds. Arms with the same seed read the text in the same
order, so they share part of their noise, which cancels in differences. This is the model of randomised blocks,

    loss[arm, seed] = arm + seed + noise,        noise ~ Normal(0, sigma)

fitted by least squares. Sigma is pooled over all arms, with (arms - 1) (seeds - 1) degrees of freedom if no cell is
missing. A difference of two arms has the standard error sigma sqrt(2 / seeds). With two arms this is the paired t test;
with more, the pooled sigma is much better known than the sigma of each pair. The model assumes that all arms are about
equally noisy: one very unstable arm widens the intervals of all. One seed gives a mean and no interval.

References: Box, Hunter & Hunter, Statistics for Experimenters, chapter 4 (randomised blocks); Sidak (1967),
"Rectangular confidence regions for the means of multivariate normal distributions".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

__all__ = [
    "Estimate",
    "Noise",
    "finite_or_none",
    "known_mean",
    "mean_interval",
    "paired_differences",
    "pooled_noise",
    "prediction_interval",
    "rank_correlations",
    "simultaneous_level",
    "t_quantile",
]

LEVEL = 0.95
"""Confidence level of intervals."""

Losses = Mapping[str, Mapping[int, float]]
"""Result by arm and seed; cells may be missing."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated mean with its interval.

    Attributes:
        mean: estimated mean.
        low, high: ends of the interval; None if there are too few trainings for an interval.
        n: number of trainings or pairs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval exists and lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0.0 or self.high < 0.0)


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of one training after the effects of arm and seed are removed, and its degrees of freedom."""

    sigma: float
    freedom: int


def t_quantile(level: float, freedom: int) -> float:
    """Return the half width of a two-sided interval of Student's t, in standard errors.

    Args:
        level: confidence level, between 0 and 1.
        freedom: degrees of freedom, at least 1.

    >>> round(t_quantile(0.95, 2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1.0 + level) / 2.0))


def simultaneous_level(level: float, comparisons: int) -> float:
    """Return the level that each of several intervals needs so that all hold together at `level` (Sidak).

    Use it if the best of several is picked: its interval then still holds. It is exact for independent estimates, and
    slightly too wide for estimates with a common baseline.

    >>> round(simultaneous_level(0.95, 10), 5)
    0.99488
    """
    return level ** (1.0 / max(comparisons, 1))


def known_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def finite_or_none(value: float) -> float | None:
    """Return a value as a Python float, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def mean_interval(values: Sequence[float]) -> Estimate:
    """Return the mean of trainings with Student's 95% interval, from their own spread.

    Raises:
        ValueError: `values` is empty.

    >>> mean_interval([1.0])
    Estimate(mean=1.0, low=None, high=None, n=1)
    """
    return _own_interval(values, 0)


def prediction_interval(values: Sequence[float]) -> Estimate:
    """Return the 95% interval for one further training; it is wider than `mean_interval` by the noise of that training.

    A single training of another program inside the baseline's prediction interval is not evidence of a difference.
    """
    return _own_interval(values, 1)


def pooled_noise(losses: Losses) -> Noise | None:
    """Return the noise of one training, from least squares on arm + seed; None for a single arm or a single seed."""
    arms = [name for name in losses if losses[name]]
    seeds = sorted({seed for name in arms for seed in losses[name]})
    cells = [(row, seeds.index(seed), value) for row, name in enumerate(arms) for seed, value in losses[name].items()]
    if not cells:
        return None
    design = np.zeros((len(cells), len(arms) + len(seeds)))
    for number, (row, column, _) in enumerate(cells):
        design[number, row] = design[number, len(arms) + column] = 1.0
    values = np.array([value for _, _, value in cells])
    solution, _, rank, _ = np.linalg.lstsq(design, values - values.mean(), rcond=None)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return None
    residual = values - values.mean() - design @ solution
    return Noise(math.sqrt(float(residual @ residual) / freedom), freedom)


def paired_differences(
    losses: Losses, baseline: str, level: float = LEVEL, simultaneous: bool = False
) -> dict[str, Estimate]:
    """Return each arm's difference to the baseline over the seeds they share, with the noise pooled over all arms.

    Args:
        losses: results of all arms, including the baseline. Arms without a seed of the baseline are left out.
        baseline: name of the arm to subtract.
        level: confidence level.
        simultaneous: widen the intervals so that all hold together, as needed if the best of them is picked.

    Returns:
        The mean of arm minus baseline for every other arm, with an interval if there are two or more pairs.
    """
    reference = losses.get(baseline, {})
    pairs = {
        name: [value - reference[seed] for seed, value in cells.items() if seed in reference]
        for name, cells in losses.items()
        if name != baseline
    }
    pairs = {name: differences for name, differences in pairs.items() if differences}
    shared = {name: {seed: losses[name][seed] for seed in losses[name] if seed in reference} for name in pairs}
    noise = pooled_noise({baseline: reference, **shared})
    if simultaneous:
        level = simultaneous_level(level, len(pairs))
    found = {}
    for name, differences in pairs.items():
        mean, n = fmean(differences), len(differences)
        if noise is None or n < 2:
            found[name] = Estimate(mean, None, None, n)
            continue
        half = t_quantile(level, noise.freedom) * noise.sigma * math.sqrt(2.0 / n)
        found[name] = Estimate(mean, mean - half, mean + half, n)
    return found


def rank_correlations(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Return Kendall's tau-b and Spearman's rho of paired values, or None if all values on one side are equal.

    >>> tau, rho = rank_correlations([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0])
    >>> round(tau, 3), round(rho, 3)
    (0.667, 0.8)
    """
    from scipy.stats import kendalltau, spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    tau = kendalltau(first, second).statistic  # pyright: ignore[reportAttributeAccessIssue]
    rho = spearmanr(first, second).statistic  # pyright: ignore[reportAttributeAccessIssue]
    return float(tau), float(rho)


def _own_interval(values: Sequence[float], further: int) -> Estimate:
    if not values:
        raise ValueError("an interval needs at least one value")
    mean, n = fmean(values), len(values)
    if n < 2:
        return Estimate(mean, None, None, n)
    half = t_quantile(LEVEL, n - 1) * stdev(values) * math.sqrt(1.0 / n + further)
    return Estimate(mean, mean - half, mean + half, n)
