"""A landscape of edits drawn from the tape: what a mutation changes, and what a merge of two programs misses.

The effect of a mutation is the true loss of a child of the tape less that of its parent. Effects of children of the
baseline and of children of better parents are kept apart, because good programs are harder to improve. A merge adds
the effects of both programs' edits, and misses as much as a merge of the tape missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.record_tape import SHARES, Entry
from primer_search.benchmarks.replay_data import NOISE_SD, Children, parts_of_merges, true_losses

__all__ = ["GOOD_GAIN", "Landscape", "QuantileRow", "landscape_of", "quantile_rows"]

GOOD_GAIN = 0.01
"""Gain over the baseline, in nats, from which a parent counts as a good one."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """Observed changes of the true loss, in nats; NaN for failures.

    Attributes:
        of_baseline: effects of live mutations of the baseline, and of parents that are not good.
        of_good: effects of live mutations of good parents.
        misses: true losses of merges less the sum of their parts.
    """

    of_baseline: np.ndarray
    of_good: np.ndarray
    misses: np.ndarray

    def resampled(self, rng: np.random.Generator) -> Landscape:
        """Return a bootstrap sample."""
        return Landscape(*(rng.choice(each, len(each)) for each in (self.of_baseline, self.of_good, self.misses)))

    def effect(self, gain: float, rng: np.random.Generator) -> float:
        """Draw the effect of a mutation of a parent with this gain over the baseline."""
        return float(rng.choice(self.of_good if gain >= GOOD_GAIN else self.of_baseline))

    def miss(self, rng: np.random.Generator) -> float:
        """Draw what the sum of effects misses for a merge."""
        return float(rng.choice(self.misses))


@dataclass(frozen=True, slots=True)
class QuantileRow:
    """Quantiles of changes of the true loss in nats, without failures.

    Attributes:
        change: what changes the loss.
        children: children of the tape, and
        failures: those of them that failed.
        best, tenth, quarter, median, three_quarters: quantiles from the best.
    """

    change: str
    children: int
    failures: int
    best: float
    tenth: float
    quarter: float
    median: float
    three_quarters: float


def quantile_rows(landscape: Landscape) -> list[QuantileRow]:
    """Return the quantiles of all changes."""
    pools = {
        "mutations of the baseline and of parents that are not good": landscape.of_baseline,
        f"mutations of parents that gain at least {GOOD_GAIN:g}": landscape.of_good,
        "merges, beyond the sum of their edits": landscape.misses,
    }
    return [
        QuantileRow(name, len(pool), int(np.isnan(pool).sum()), *_quantiles(pool, (0.0, 0.1, 0.25, 0.5, 0.75)))
        for name, pool in pools.items()
    ]


def landscape_of(entries: Sequence[Entry], children: Children) -> Landscape | None:
    """Return the landscape of a tape; None if it has no merges, or no mutations of both kinds of parents."""
    true = true_losses(children.finals, NOISE_SD)
    parents = np.where(children.parents < 0, children.baseline, true[children.parents])
    live, effects = np.array(children.kinds) == "live", true - parents
    good = children.baseline - parents >= GOOD_GAIN
    misses = _misses([entry for entry in entries if entry.kind in SHARES], children, true)
    pools = effects[live & ~good], effects[live & good], np.array(misses)
    return Landscape(*pools) if all(map(len, pools)) else None


def _quantiles(pool: np.ndarray, shares: Sequence[float]) -> list[float]:
    return [float(each) for each in np.nanquantile(pool, shares)]


def _misses(entries: Sequence[Entry], children: Children, true: np.ndarray) -> list[float]:
    """Return what merges of the tape miss, for those whose parts were all trained."""
    losses = {name: np.array([loss]) for name, loss in zip(children.names, true, strict=True)}
    sums = parts_of_merges(entries, losses, np.array([children.baseline]))
    misses = [float((losses[name] - total)[0]) for name, total in sums.items()]
    return [miss for miss in misses if np.isfinite(miss)]
