"""Replay of rules that stop trainings early, at equal core-seconds.

A replay draws children from a bootstrap sample of the tape, in the same order for every rule, and trains each as far as
the rule allows. A training costs its compilation, and its training time up to the point where it stopped. When the
core-seconds are spent, the replay names the child with the best final loss. Final losses have new noise in every
replay, and the named child is judged by its true loss, so luck does not count as a gain.

All replays advance together, child by child.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from primer_search.benchmarks.record_tape import POINTS
from primer_search.benchmarks.replay_data import NOISE_SD, Children, true_losses
from primer_search.benchmarks.replay_fit import BatchFit, fit_batch
from primer_search.search.guided.linear_model import OUTLIERS

__all__ = ["RULES", "TODAY", "Comparison", "Draws", "History", "Replays", "Rule", "compare", "draw", "replay"]

EARLIER = {0.2: 0.1, 0.35: 0.2, 0.5: 0.35, 0.7: 0.5}
"""Earlier point that gives the slope at a point."""

MINIMUM = {"median": 10, "quarter": 6, "parent": 6}
"""Number of children before the first stop, by target: losses at the hurdle, or finished trainings."""

WINDOW = 100
"""Number of latest losses at a hurdle; their median is today's threshold."""

UNSTOPPED_SHARE = 1 / 15
"""Share of children that rules with predictions never stop."""

FRESH = 40
"""Number of children up to which models are fitted for every child; afterwards for every fourth, to save time."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that stops trainings.

    Attributes:
        stops: shares of the budget at which a training may stop.
        target: `median`: the loss must be below the median of the latest losses, as today. `quarter`, `parent`: the
            predicted final loss must have a chance to reach the best quarter so far, or the parent's loss.
        freedom: degrees of freedom of the noise of predicted final losses; infinite for normal noise.
        chances: a training stops if its chance to reach the target is lower; one number for each stop.
    """

    stops: tuple[float, ...] = ()
    target: str = "parent"
    freedom: float = math.inf
    chances: tuple[float, ...] = (0.1,)

    @property
    def name(self) -> str:
        """Short description of the rule."""
        if not self.stops:
            return "none"
        at = ", ".join(f"{stop:g}" for stop in self.stops)
        if self.target == "median":
            return f"median of the last {WINDOW} at {at}"
        noise = "normal" if math.isinf(self.freedom) else "t"
        chances = ", ".join(f"{chance:g}" for chance in self.chances)
        return f"{self.target}, at {at}, {noise} noise, P < {chances}"


TODAY = Rule((0.35,), "median")
"""Today's rule with one hurdle, at the tape's point that is nearest to its position (a third of the budget)."""

RULES = (
    Rule(),
    TODAY,
    *(
        Rule(stops, target, freedom, (chance,) * len(stops))
        for target in ("quarter", "parent")
        for stops in ((0.2,), (0.2, 0.35), (0.35,), (0.35, 0.5))
        for freedom in (math.inf, OUTLIERS)
        for chance in (0.1, 0.3)
    ),
    *(
        Rule((0.2, 0.35, 0.5, 0.7)[: len(chances)], "quarter", OUTLIERS, chances)
        for chances in ((0.05, 0.3, 0.3), (0.1, 0.3, 0.3), (0.1, 0.3, 0.5), (0.1, 0.4, 0.5, 0.6))
    ),
)
"""Rules to compare."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Random draws of the replays, the same for every rule: arrays [replay, child]."""

    children: np.ndarray
    noise: np.ndarray
    unstopped: np.ndarray


@dataclass(frozen=True, slots=True)
class Replays:
    """Results of a rule, by replay.

    Attributes:
        true_loss: true loss of the named child, in nats.
        seen: number of children trained, stopped or not.
        stopped: number of children stopped.
        good: number of good children trained, stopped or not: true loss in the best tenth of the tape.
        good_stopped: number of good children stopped.
    """

    true_loss: np.ndarray
    seen: np.ndarray
    stopped: np.ndarray
    good: np.ndarray
    good_stopped: np.ndarray


@dataclass(frozen=True, slots=True)
class Comparison:
    """A rule compared with today's.

    Attributes:
        rule: description of the rule.
        gain: mean true gain of the named child over the baseline, in nats.
        better, worse: shares of replays that name a child truly better, or worse, than that named by today's rule.
        seen: mean number of children trained in a replay.
        stopped: share of these children that were stopped.
        good_stopped: share of the good children that were stopped.
        good_finished: mean number of good children trained to the end in a replay.
        more_good: `good_finished` minus that of today's rule.
        more_good_sd: standard deviation of `more_good` between replays, which is its standard error between tapes.
    """

    rule: str
    gain: float
    better: float
    worse: float
    seen: float
    stopped: float
    good_stopped: float
    good_finished: float
    more_good: float
    more_good_sd: float


def draw(children: Children, replays: int, most: int, seed: int) -> Draws:
    """Draw children with replacement, and the noise of their final losses.

    Each replay has a bootstrap sample of the tape, so the spread of results is that between different tapes.
    """
    rng, size, count = np.random.default_rng(seed), (replays, most), len(children.names)
    samples = rng.integers(count, size=(replays, count))
    places = np.take_along_axis(samples, rng.integers(count, size=size), axis=1)
    return Draws(places, rng.normal(0.0, NOISE_SD, size), rng.random(size) < UNSTOPPED_SHARE)


def replay(rule: Rule, children: Children, draws: Draws, seconds: float) -> Replays:
    """Replay one rule until every replay has spent its core-seconds."""
    true = true_losses(children.finals, NOISE_SD)
    good = true < np.nanquantile(true, 0.1)
    history = History(rule, children, draws, true)
    spent, best = np.zeros(len(draws.children)), np.full(len(draws.children), np.inf)
    named, counts = np.full(len(best), np.nan), np.zeros((4, len(best)))
    for step in range(draws.children.shape[1]):
        places = draws.children[:, step]
        reached = history.train(step)
        spent += children.compile_seconds[places] + reached * children.train_seconds[places]
        active = spent <= seconds
        if not active.any():
            break
        stopped = reached < 1.0
        counts += active * np.stack([active, stopped, good[places], good[places] & stopped])
        loss = np.where(active & (reached == 1.0), history.finals[:, step], np.inf)
        named = np.where(loss < best, true[places], named)
        best = np.minimum(best, loss)
    return Replays(named, *counts)


def compare(rule: Rule, found: Replays, today: Replays, baseline: float) -> Comparison:
    """Compare the replays of a rule with those of today's rule, replay by replay."""
    difference = found.true_loss - today.true_loss
    finished, finished_today = found.good - found.good_stopped, today.good - today.good_stopped
    return Comparison(
        rule=rule.name,
        gain=float(np.nanmean(baseline - found.true_loss)),
        better=float(np.mean(difference < 0)),
        worse=float(np.mean(difference > 0)),
        seen=float(found.seen.mean()),
        stopped=float(found.stopped.sum() / found.seen.sum()),
        good_stopped=float(found.good_stopped.sum() / max(found.good.sum(), 1.0)),
        good_finished=float(finished.mean()),
        more_good=float((finished - finished_today).mean()),
        more_good_sd=float((finished - finished_today).std()),
    )


@dataclass
class History:
    """Results that the replays saw so far, as arrays [replay, child].

    Attributes:
        finals: final losses, with noise; predicted losses for stopped children; infinite for failures.
        known: whether the training finished.
    """

    rule: Rule
    children: Children
    draws: Draws
    true: np.ndarray
    finals: np.ndarray = field(init=False)
    known: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        final = self.true[self.draws.children] + self.draws.noise
        self.finals = np.where(np.isfinite(final), final, np.inf)
        self.known = np.isfinite(final)
        self._features = {stop: self._seen(stop) for stop in self.rule.stops}
        self._fits: dict[float, BatchFit] = {}

    def train(self, step: int) -> np.ndarray:
        """Train the next child of every replay; return the share of its training that it reached."""
        reached = np.ones(len(self.finals))
        for stop in self.rule.stops:
            stops, predicted = self._median(stop, step) if self.rule.target == "median" else self._predicted(stop, step)
            stops &= reached == 1.0
            reached[stops] = stop
            self.finals[stops, step] = predicted[stops]
            self.known[stops, step] = False
        return reached

    def _seen(self, stop: float) -> np.ndarray:
        """Return value and slope at a stop, [replay, child, 2]; NaN after a failure."""
        point = POINTS.index(stop)
        values = self.children.losses[:, point]
        slopes = values - self.children.losses[:, POINTS.index(EARLIER[stop])]
        return np.stack([values, slopes], axis=1)[self.draws.children]

    def _median(self, stop: float, step: int) -> tuple[np.ndarray, np.ndarray]:
        values = np.nan_to_num(self._features[stop][..., 0], nan=np.inf)
        if step < MINIMUM["median"]:
            return np.zeros(len(values), bool), values[:, step]
        threshold = np.median(values[:, max(0, step - WINDOW) : step], axis=1)
        return np.isfinite(values[:, step]) & (values[:, step] >= threshold), values[:, step]

    def _predicted(self, stop: float, step: int) -> tuple[np.ndarray, np.ndarray]:
        features = self._features[stop]
        if step < MINIMUM[self.rule.target]:
            return np.zeros(len(features), bool), features[:, step, 0]
        if step <= FRESH or step % 4 == 0 or stop not in self._fits:
            known = self.known[:, :step]
            self._fits[stop] = fit_batch(features[:, :step], self.finals[:, :step], known, self.rule.freedom)
        fit = self._fits[stop]
        predicted = fit.predict(features[:, step])
        chance = self.rule.chances[self.rule.stops.index(stop)]
        limit = self._target(step) + _quantile(chance) * fit.sds
        return (predicted > limit) & ~self.draws.unstopped[:, step], predicted

    def _target(self, step: int) -> np.ndarray:
        if self.rule.target == "quarter":
            place = (step - 1) // 4
            return np.partition(self.finals[:, :step], place, axis=1)[:, place]
        parents = self.children.parents[self.draws.children[:, step]]
        return np.where(parents < 0, self.children.baseline, self.true[parents])


def _quantile(chance: float) -> float:
    """Return the distance of a normal mean above a value that is reached with this chance, in standard deviations."""
    return -NormalDist().inv_cdf(chance)
