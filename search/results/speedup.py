"""The speedup factor of Primer, section 4.1: how much compute a program saves on the way to the baseline's final loss.

    factor = baseline's compute for its full training / compute at which the program reaches the baseline's final loss

Compute is the budget spent, in the trial's own unit. Losses are validation losses at points of the training: their mean
over seeds, its running minimum, interpolated in the logarithm of compute. A program that never gets there has a factor
below 1, by the same construction the other way round: the compute at which the baseline reached the program's final
loss, over the full budget. A factor outside what the points cover is known as a bound only, and says so.

The interval is ours. Random seeds are resampled, with replacement and the same ones for both programs; the spread of
the factor's logarithm over such draws, times sqrt(n / (n - 1)), is its standard error, and the interval Student's with
n - 1 degrees of freedom: percentiles of so few seeds would be too narrow. Past four epochs repeated text wears out
(Muennighoff et al. 2023) and a factor would say more of the data than of the program: none is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...workers.protocol import Evaluation
from .statistics import t_quantile

__all__ = ["MOST_EPOCHS", "LossCurve", "Speedup", "loss_curve", "speedup"]

MOST_EPOCHS = 4.0
"""How often the training text may have been seen where a factor is claimed."""

DRAWS = 500
"""Draws of seeds behind an interval."""


@dataclass(frozen=True, slots=True)
class LossCurve:
    """Validation losses of one training.

    Attributes:
        compute: spent at each point, in the trial's unit, rising; the last is the whole.
        steps: optimizer steps at each point.
        loss_nats: validation loss there.
        epochs: how often the training text was seen in all.
    """

    compute: tuple[float, ...]
    steps: tuple[int, ...]
    loss_nats: tuple[float, ...]
    epochs: float


@dataclass(frozen=True, slots=True)
class Speedup:
    """A speedup factor.

    Attributes:
        factor: above 1 where the program is faster; None where none is claimed.
        low, high: ends of the interval; None for fewer than two seeds.
        bound: `>` or `<` where the factor is only known to be beyond what the points cover; else empty.
        why_none: why no factor is claimed, in a sentence; empty where one is.
    """

    factor: float | None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    why_none: str = ""


def loss_curve(evaluation: Evaluation) -> LossCurve | None:
    """The curve of a training; None if it was not trained to the end."""
    if evaluation.outcome != "ok" or evaluation.loss_nats is None or not evaluation.steps:
        return None
    points = [(0.0, 0), *((spent, steps) for spent, steps, _ in evaluation.curve), (evaluation.spent, evaluation.steps)]
    steps = [*evaluation.hurdle_steps, evaluation.steps]
    spent = np.interp(steps, [at for _, at in points], [charged for charged, _ in points])
    losses = (*evaluation.hurdle_losses, evaluation.loss_nats)
    kept: dict[int, tuple[float, float]] = {}  # two points closer than a step are one
    for at, charged, loss in zip(steps, spent, losses, strict=True):
        kept[at] = float(charged), loss
    compute, loss_nats = zip(*kept.values(), strict=True)
    return LossCurve(compute, tuple(kept), loss_nats, evaluation.epochs)


def speedup(
    candidate: Sequence[LossCurve], baseline: Sequence[LossCurve], level: float = 0.95, seed: int = 0
) -> Speedup:
    """The factor of a program against a baseline.

    Args:
        candidate, baseline: curves of the same seeds in the same order, measured at the same points.
        level: of confidence.
        seed: of the draws.
    """
    if len(candidate) != len(baseline):
        raise ValueError(f"{len(candidate)} curves of the candidate, {len(baseline)} of the baseline: they are pairs")
    if not candidate:
        return Speedup(None, why_none="no seed trained both to the end")
    epochs = max(curve.epochs for curve in (*candidate, *baseline))
    if epochs > MOST_EPOCHS:
        return Speedup(None, why_none=f"the text was seen {epochs:.1f} times, over {MOST_EPOCHS:g}")
    ours, theirs = _table(candidate), _table(baseline)
    everyone = np.arange(len(candidate))
    factor, bound = _factor(ours, theirs, everyone)
    if len(candidate) < 2:
        return Speedup(factor, bound=bound)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(candidate), size=(DRAWS, len(candidate)))
    logs = [math.log(_factor(ours, theirs, draw)[0]) for draw in draws]
    n = len(candidate)
    half = t_quantile(level, n - 1) * float(np.std(logs)) * math.sqrt(n / (n - 1))
    return Speedup(factor, factor * math.exp(-min(half, 50.0)), factor * math.exp(min(half, 50.0)), bound)


@dataclass(frozen=True, slots=True)
class _Table:
    """Curves of several seeds on the points they share: log of compute, and loss, both [seeds, points]."""

    log_compute: np.ndarray
    loss: np.ndarray

    def mean(self, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean curve of some seeds: log of compute [points], and running minimum of the loss [points]."""
        return self.log_compute[draw].mean(0), np.minimum.accumulate(self.loss[draw].mean(0))


def _table(curves: Sequence[LossCurve]) -> _Table:
    """Curves with fewer points (some fell together) are read off between theirs, at the first one's points."""
    grid = np.log(min(curves, key=lambda curve: len(curve.compute)).compute)
    rows = []
    for curve in curves:
        own = np.log(curve.compute)
        if len(own) == len(grid):
            rows.append((own, np.array(curve.loss_nats)))
        else:
            rows.append(
                (
                    np.append(grid[:-1], own[-1]),
                    np.append(np.interp(grid[:-1], own, curve.loss_nats), curve.loss_nats[-1]),
                )
            )
    return _Table(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))


def _factor(candidate: _Table, baseline: _Table, draw: np.ndarray) -> tuple[float, str]:
    ours, theirs = candidate.mean(draw), baseline.mean(draw)
    if ours[1][-1] <= theirs[1][-1]:
        at, early = _reached(*ours, float(theirs[1][-1]))
        return math.exp(float(theirs[0][-1]) - at), ">" if early else ""
    at, early = _reached(*theirs, float(ours[1][-1]))
    return math.exp(at - float(ours[0][-1])), "<" if early else ""


def _reached(log_compute: np.ndarray, loss: np.ndarray, goal: float) -> tuple[float, bool]:
    """Log of the compute at which a falling curve reaches a loss, and whether it had by its first point already."""
    first = int(np.argmax(loss <= goal))
    if first == 0:
        return float(log_compute[0]), True
    above, below = float(loss[first - 1]), float(loss[first])
    share = (above - goal) / (above - below)
    return float(log_compute[first - 1] + share * (log_compute[first] - log_compute[first - 1])), False
