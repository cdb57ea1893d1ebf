"""Estimated number of candidates of a search, for its plan.

    candidates = time of all workers / mean time of a candidate

The mean time depends on where trainings stop. The paper's hurdles let half of the candidates pass. A guided search
stops what is unlikely to become good, so its shares are those of earlier searches; trainings of leaders with further
random seeds add to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..search.config import RunConfig
from ..search.evolution.hurdles import mean_cost
from ..search.guided.make_strategy import GUIDED_STRATEGIES
from ..search.guided.stop_rule import MINIMUM_TRAININGS
from .rough_time import OVERHEAD_SECONDS, rough_training_seconds

__all__ = ["MEASURED_STOPS", "TrainingShares", "expected_candidates"]

MEASURED_CANDIDATES = 360
"""Candidates of three guided searches of ten minutes: seeds 0, 1 and 2 in benchmarks/results/ten_minutes.txt."""

MEASURED_STOPS = {0.2: 144, 0.35: 34, 0.5: 20}
"""Number of these candidates that stopped, by the share of the budget."""

MEASURED_REPEATS = 29
"""Further trainings of leaders in the same searches."""

EDIT_MODEL_SECONDS = 1.2e-11
"""Time to fit the model of edits to n candidates is n^3 times this: 0.02 s for 800, 0.14 s for 2,000, 0.7 s for 4,000
and 8 s for 10,000 (one core of an AMD EPYC). It is fitted after each training."""


@dataclass(frozen=True, slots=True)
class TrainingShares:
    """Shares of the budget that the candidates of a search train.

    Attributes:
        first: mean share of the budget that the first training of a candidate takes.
        further: further trainings to the end for each candidate: of leaders, and of the baseline.
        unstopped: candidates that train to the end before any can be stopped.
        refit: n^3 times this is the time of the search itself after each training, with n candidates, in seconds.
        basis: where the shares come from, in words.
    """

    first: float
    further: float
    unstopped: int
    refit: float
    basis: str

    @staticmethod
    def of(config: RunConfig) -> TrainingShares:
        """Return the shares of a search."""
        trial, search = config.trial, config.search
        controls = 1.0 / search.control_every if search.control_every else 0.0
        if search.strategy in GUIDED_STRATEGIES:
            saved = sum(number * (1.0 - share) for share, number in MEASURED_STOPS.items()) / MEASURED_CANDIDATES
            stopped = sum(MEASURED_STOPS.values()) / MEASURED_CANDIDATES
            return TrainingShares(
                1.0 - saved,
                controls + MEASURED_REPEATS / MEASURED_CANDIDATES,
                max(MINIMUM_TRAININGS - search.baseline_trials, 0),
                EDIT_MODEL_SECONDS,
                f"if {stopped:.0%} stop early, as in the searches of docs/discovery.md",
            )
        return TrainingShares(
            mean_cost(trial.budget, trial.hurdles) / trial.budget,
            controls,
            max(search.hurdle_minimum - search.baseline_trials, 0),
            0.0,
            f"if half of those that reach a hurdle stop{' there' * (trial.hurdles > 1)}" if trial.hurdles else "",
        )


def expected_candidates(config: RunConfig, platform: str, workers: int, search_seconds: float) -> int | None:
    """Return the estimated number of candidates; None if the time of a training is not known.

    Args:
        config: run configuration.
        platform: `cpu`, `gpu` or `tpu`.
        workers: number of trainings that run at once.
        search_seconds: wall clock of the search, without the end of the run.
    """
    training = rough_training_seconds(config, platform)
    if training is None:
        return None
    shares, overhead = TrainingShares.of(config), OVERHEAD_SECONDS[platform]
    full = training + overhead
    seconds = workers * search_seconds - config.search.baseline_trials * full
    unstopped = min(shares.unstopped, max(seconds, 0.0) / full)
    each = shares.first * training + overhead + shares.further * full
    expected = unstopped + (seconds - unstopped * full) / each
    return max(1, int(_slowed(expected, each / workers, (1.0 + shares.further) * shares.refit)))


def _slowed(expected: float, each: float, refit: float) -> float:
    """Return the number of candidates if the search itself takes `refit * n^3` seconds for the n-th of them.

    Args:
        expected: number of candidates if it takes no time.
        each: seconds between two candidates, if it takes no time.
        refit: factor, in seconds.
    """
    limit = (each / refit) ** (1 / 3) if refit else expected  # from here on the workers wait for the search
    if expected <= limit:
        return expected
    return (limit**4 + 4 * (expected - limit) * each / refit) ** (1 / 4)
