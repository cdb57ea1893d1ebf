"""Speedup factor of Primer, section 4.1: the compute that a program saves in reaching the baseline's final loss.

    factor = compute of the baseline's full training / compute at which the program reaches the baseline's final loss

Compute is the budget spent, in the trial's unit. The loss of a program is measured on validation text at points of its
training, averaged over seeds, replaced by its running minimum, and interpolated in the logarithm of compute. A program
that does not reach the baseline's loss has a factor below 1: the compute at which the baseline reached the program's
final loss, divided by the full budget. A factor outside the measured points is reported as a bound.

The interval is our own. The seeds are resampled with replacement, the same seeds for both programs. The standard error
is the standard deviation of the factor's logarithm over these draws, times sqrt(n / (n - 1)). The interval is Student's
with n - 1 degrees of freedom, since percentiles of a few seeds would be too narrow. No factor is claimed after more
than four epochs: repeated text loses its value (Muennighoff et al. 2023), and the factor would measure that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...workers.protocol import Evaluation
from .statistics import t_quantile

__all__ = ["MAX_EPOCHS", "LossCurve", "Speedup", "loss_curve", "speedup"]

MAX_EPOCHS = 4.0
"""Largest number of epochs for which a factor is claimed."""

DRAWS = 500
"""Number of resampled sets of seeds for an interval."""


@dataclass(frozen=True, slots=True)
class LossCurve:
    """Validation losses of one training.

    Attributes:
        compute: compute spent at each point, in the trial's unit; the last point is the end of the training.
        steps: optimizer steps at each point.
        loss_nats: validation loss at each point.
        epochs: number of passes over the training text.
    """

    compute: tuple[float, ...]
    steps: tuple[int, ...]
    loss_nats: tuple[float, ...]
    epochs: float


@dataclass(frozen=True, slots=True)
class Speedup:
    """A speedup factor.

    Attributes:
        factor: speedup, above 1 if the program is faster; None if it is not claimed.
        low, high: ends of the interval; None for fewer than two seeds.
        bound: `>` or `<` if the factor is only a bound, because it lies outside the measured points; otherwise empty.
        why_none: reason why a factor is not claimed; otherwise empty.
    """

    factor: float | None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    why_none: str = ""


def loss_curve(evaluation: Evaluation) -> LossCurve | None:
    """Return the curve of a training, or None if the training did not finish."""
    if evaluation.outcome != "ok" or evaluation.loss_nats is None or not evaluation.steps:
        return None
    points = [(0.0, 0), *((spent, steps) for spent, steps, _ in evaluation.curve), (evaluation.spent, evaluation.steps)]
    steps = [*evaluation.hurdle_steps, evaluation.steps]
    spent = np.interp(steps, [at for _, at in points], [charged for charged, _ in points])
    losses = (*evaluation.hurdle_losses, evaluation.loss_nats)
    kept: dict[int, tuple[float, float]] = {}  # points at the same step are merged
    for at, charged, loss in zip(steps, spent, losses, strict=True):
        kept[at] = float(charged), loss
    compute, loss_nats = zip(*kept.values(), strict=True)
    return LossCurve(compute, tuple(kept), loss_nats, evaluation.epochs)


def speedup(
    candidate: Sequence[LossCurve], baseline: Sequence[LossCurve], level: float = 0.95, seed: int = 0
) -> Speedup:
    """Return the speedup of a program over the baseline.

    Args:
        candidate, baseline: curves of the same seeds in the same order, measured at the same points.
        level: confidence level of the interval.
        seed: random seed of the resampling.
    """
    if len(candidate) != len(baseline):
        raise ValueError(f"{len(candidate)} curves of the candidate and {len(baseline)} of the baseline are not pairs")
    if not candidate:
        return Speedup(None, why_none="no seed trained both to the end")
    epochs = max(curve.epochs for curve in (*candidate, *baseline))
    if epochs > MAX_EPOCHS:
        return Speedup(None, why_none=f"the text was seen {epochs:.1f} times, over {MAX_EPOCHS:g}")
    ours, theirs = _table(candidate), _table(baseline)
    factor, bound = _factor(ours, theirs, np.arange(len(candidate)))
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
    """Curves of several seeds at common points: log of compute, and loss, both [seeds, points]."""

    log_compute: np.ndarray
    loss: np.ndarray

    def mean(self, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean curve of the drawn seeds: log of compute, and running minimum of the loss, both [points]."""
        return self.log_compute[draw].mean(0), np.minimum.accumulate(self.loss[draw].mean(0))


def _table(curves: Sequence[LossCurve]) -> _Table:
    """Return the curves at the points of the shortest one; longer curves are interpolated but keep their last point."""
    grid = np.log(min(curves, key=lambda curve: len(curve.compute)).compute)
    log_compute, losses = [], []
    for curve in curves:
        own, loss = np.log(curve.compute), np.array(curve.loss_nats)
        if len(own) != len(grid):
            loss = np.append(np.interp(grid[:-1], own, loss), loss[-1])
            own = np.append(grid[:-1], own[-1])
        log_compute.append(own)
        losses.append(loss)
    return _Table(np.array(log_compute), np.array(losses))


def _factor(candidate: _Table, baseline: _Table, draw: np.ndarray) -> tuple[float, str]:
    """Return the factor of the drawn seeds' mean curves, and whether it is a bound: `>`, `<` or empty."""
    ours, theirs = candidate.mean(draw), baseline.mean(draw)
    if ours[1][-1] <= theirs[1][-1]:
        at, early = _reached(*ours, float(theirs[1][-1]))
        return math.exp(float(theirs[0][-1]) - at), ">" if early else ""
    at, early = _reached(*theirs, float(ours[1][-1]))
    return math.exp(at - float(ours[0][-1])), "<" if early else ""


def _reached(log_compute: np.ndarray, loss: np.ndarray, goal: float) -> tuple[float, bool]:
    """Return the log of the compute at which a falling curve reaches a loss, and whether that is at its first point."""
    first = int(np.argmax(loss <= goal))
    if first == 0:
        return float(log_compute[0]), True
    above, below = float(loss[first - 1]), float(loss[first])
    share = (above - goal) / (above - below)
    return float(log_compute[first - 1] + share * (log_compute[first] - log_compute[first - 1])), False
