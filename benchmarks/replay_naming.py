"""Replay of searches that name the ten best programs of the tape: quality of the names, and trainings that it takes.

In every replay, the children of a sample of the tape come in a random order, and their true losses are drawn from the
posterior of the tape. All searches have the same order, the same true losses and the same noise of each training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.replay_data import NOISE_SD, Children, true_losses
from primer_search.benchmarks.replay_hurdles import UNSTOPPED_SHARE, Draws, History, Rule

__all__ = [
    "MOST_TRAININGS",
    "NAMED",
    "Naming",
    "Trainings",
    "draw_trainings",
    "name_naively",
    "name_with_repeats",
    "reached_shares",
]

NAMED = 10
"""Number of programs that a search names."""

MOST_TRAININGS = 32
"""Largest number of trainings of one program in a replay."""


@dataclass(frozen=True, slots=True)
class Trainings:
    """Random draws of the replays, the same for every search: arrays [replay, program].

    Attributes:
        children: the tape.
        places: index of the program on the tape.
        true: true losses; infinite for failures.
        losses: [replay, program, training] losses at the budget.
        unstopped: programs that hurdles never stop.
    """

    children: Children
    places: np.ndarray
    true: np.ndarray
    losses: np.ndarray
    unstopped: np.ndarray


@dataclass(frozen=True, slots=True)
class Naming:
    """Programs that a search named, and its trainings.

    Attributes:
        overlap: [replay] number of named programs that are among the truly best.
        true_loss: [replay] mean true loss of the named programs, in nats.
        reached: [replay, program] share of its first training that a program reached; 0 without a training.
        repeats: [replay, program] number of trainings after the first.
    """

    overlap: np.ndarray
    true_loss: np.ndarray
    reached: np.ndarray
    repeats: np.ndarray


def draw_trainings(children: Children, sample: np.ndarray, replays: int, rng: np.random.Generator) -> Trainings:
    """Draw orders, true losses and noise.

    Args:
        children: the tape.
        sample: indices of the children that exist in these replays; an index may occur several times.
        replays: number of replays.
        rng: source of the draws.
    """
    places = rng.permuted(np.tile(sample, (replays, 1)), axis=1)
    means, sds = _posterior(children.finals)
    true = means[places] + sds[places] * rng.standard_normal(places.shape)
    true = np.where(np.isfinite(true), true, np.inf)
    losses = true[..., None] + NOISE_SD * rng.standard_normal((*places.shape, MOST_TRAININGS))
    return Trainings(children, places, true, losses, rng.random(places.shape) < UNSTOPPED_SHARE)


def name_naively(trainings: Trainings, effort: float) -> Naming:
    """Train every program to the end, and name those with the best mean loss.

    Args:
        trainings: random draws of the replays.
        effort: number of trainings of each program; below 1: share of the programs that are trained at all.
    """
    count = max(1, round(effort))
    believed = trainings.losses[..., :count].mean(axis=-1)
    reached = np.ones_like(believed)
    reached[:, max(NAMED, round(effort * believed.shape[1])) :] = 0.0
    believed[reached == 0.0] = np.inf
    return _naming(trainings, believed, reached, (count - 1) * reached)


def reached_shares(trainings: Trainings, rule: Rule) -> np.ndarray:
    """Return the share of its first training that each program reaches under a rule, [replay, program]."""
    children, places = trainings.children, trainings.places
    means = true_losses(children.finals, NOISE_SD)
    surprise = trainings.losses[..., 0] - means[places]
    draws = Draws(places, np.where(np.isfinite(surprise), surprise, 0.0), trainings.unstopped)
    history = History(rule, children, draws, means)
    return np.stack([history.train(step) for step in range(places.shape[1])], axis=1)


def name_with_repeats(
    trainings: Trainings, reached: np.ndarray, leader_trainings: int = 1, close_pairs: int = 0
) -> Naming:
    """Train some of the finished programs again, and name those with the best posterior mean.

    Args:
        trainings: random draws of the replays.
        reached: result of `reached_shares`.
        leader_trainings: number of trainings that each named program must have; programs among the best are trained
            again until all have them.
        close_pairs: number of pairs that are trained again afterwards. A pair is the named program with the highest
            mean plus standard deviation, and the other program with the lowest mean minus standard deviation (LUCB:
            Kalyanakrishnan et al. 2012, "PAC subset selection in stochastic multi-armed bandits").
    """
    beliefs = _Beliefs(trainings.losses, (reached == 1.0) & np.isfinite(trainings.true))
    while True:
        named = beliefs.best()
        short = named & (beliefs.counts < leader_trainings) & beliefs.finished
        if not short.any():
            break
        beliefs.counts[short] += 1
    for _ in range(close_pairs):
        beliefs.train_close_pair()
    return _naming(trainings, beliefs.normal()[0], reached, beliefs.counts - 1)


class _Beliefs:
    """Estimates of the programs that finished a training, in each replay: arrays [replay, program].

    Losses of the better half are shrunk towards the median, by the noise of their trainings.
    """

    def __init__(self, losses: np.ndarray, finished: np.ndarray):
        self.finished, self.counts = finished, np.ones(finished.shape, int)
        self._sums = np.cumsum(np.where(np.isfinite(losses), losses, 0.0), axis=-1)
        firsts = np.where(finished, losses[..., 0], np.nan)
        self._centre = np.nanmedian(firsts, axis=1, keepdims=True)
        squares = np.where(firsts < self._centre, (firsts - self._centre) ** 2, np.nan)
        self._spread = np.maximum(np.nanmean(squares, axis=1, keepdims=True) - NOISE_SD**2, 1e-9)

    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the losses; infinite and 0 for programs that did not finish."""
        means = np.take_along_axis(self._sums, self.counts[..., None] - 1, axis=-1)[..., 0] / self.counts
        noise = NOISE_SD**2 / self.counts
        share = np.where(means < self._centre, self._spread / (self._spread + noise), 1.0)
        believed = np.where(self.finished, self._centre + share * (means - self._centre), np.inf)
        return believed, np.where(self.finished, np.sqrt(share * noise), 0.0)

    def best(self) -> np.ndarray:
        """Return the mask of the programs to name."""
        mask = np.zeros(self.finished.shape, bool)
        np.put_along_axis(mask, _best(self.normal()[0]), True, axis=1)
        return mask

    def train_close_pair(self) -> None:
        """Train the named program and the other program whose order is least certain."""
        believed, sds = self.normal()
        named, open_ = self.best(), self.finished & (self.counts < MOST_TRAININGS)
        for among, scores in ((named & open_, -believed - sds), (~named & open_, believed - sds)):
            places = np.where(among, scores, np.inf).argmin(axis=1)
            rows = np.flatnonzero(np.take_along_axis(among, places[:, None], 1)[:, 0])
            self.counts[rows, places[rows]] += 1


def _posterior(finals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of the true losses; losses of the worse half are taken as exact.

    The deviation follows from the shrinkage of `true_losses`, which is the same for the whole better half.
    """
    means, centre = true_losses(finals, NOISE_SD), np.nanmedian(finals)
    better = finals < centre
    share = np.divide(means - centre, finals - centre, where=better, out=np.zeros_like(finals))
    return means, NOISE_SD * np.sqrt(share)


def _best(losses: np.ndarray) -> np.ndarray:
    """Return the indices of the lowest losses, [replay, NAMED]."""
    return np.argpartition(losses, NAMED, axis=1)[:, :NAMED]


def _naming(trainings: Trainings, believed: np.ndarray, reached: np.ndarray, repeats: np.ndarray) -> Naming:
    named = _best(believed)
    worst = np.partition(trainings.true, NAMED - 1, axis=1)[:, NAMED - 1 : NAMED]
    true = np.take_along_axis(trainings.true, named, 1)
    return Naming((true <= worst).sum(axis=1), true.mean(axis=1), reached, repeats)
