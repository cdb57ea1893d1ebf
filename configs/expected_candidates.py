"""Estimated number of candidates of a search, for its plan.

    candidates = time of all workers / mean time of a candidate

The mean time depends on where trainings stop. The paper's hurdles let half of the candidates pass. A guided search
stops trainings that are unlikely to become good, so the shares of stopped trainings are taken from earlier searches. It
also trains leading candidates again with other random seeds, which adds to the mean time.
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
"""Number of candidates of three guided searches of ten minutes: random seeds 0, 1 and 2 in
benchmarks/results/ten_minutes.txt."""

MEASURED_STOPS = {0.2: 144, 0.35: 34, 0.5: 20}
"""Number of these candidates that stopped, by the share of the budget at which they stopped."""

MEASURED_REPEATS = 29
"""Number of repeated trainings of leading candidates in the same searches."""

EDIT_MODEL_SECONDS = 1.2e-11
"""A guided search fits a model of edits to its n candidates after each training; the fit takes about n^3 times this.

Measured: 0.02 s for 800 candidates, 0.14 s for 2,000, 0.7 s for 4,000 and 8 s for 10,000 (one core of an AMD EPYC).
"""


@dataclass(frozen=True, slots=True)
class TrainingShares:
    """Shares of the budget that the candidates of a search train.

    Attributes:
        first: mean share of the budget that the first training of a candidate takes.
        further: number of further full trainings per candidate: of leading candidates, and of the baseline.
        unstopped: number of candidates at the start that train to the end, because none can be stopped yet.
        refit: seconds that the search itself takes after each training, divided by n^3 for n candidates.
        basis: assumption that the shares come from, as a phrase of the plan.
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
        search_seconds: wall clock of the search, without the retraining at the end of the run.
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
    """Return the number of candidates if the search itself takes `refit * n^3` seconds for the n-th candidate.

    Args:
        expected: number of candidates if the search itself took no time.
        each: seconds between two candidates in that case.
        refit: factor of n^3, in seconds.
    """
    limit = (each / refit) ** (1 / 3) if refit else expected  # number of candidates at which workers begin to wait
    if expected <= limit:
        return expected
    return (limit**4 + 4 * (expected - limit) * each / refit) ** (1 / 4)
