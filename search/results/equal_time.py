"""Differences from the baseline at equal time, for runs whose trainings are counted in steps.

Such a run compares programs after the same number of steps, although a step of one program may take longer than a step
of another. `slope * log(step time / the baseline's step time)` estimates what the longer steps cost in nats (see
`search.guided.measurements`). Its sum with the difference estimates the difference after the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...workers.protocol import Evaluation
from ..guided.make_strategy import GUIDED_STRATEGIES
from ..guided.measurements import Measurements
from ..guided.stop_rule import POINTS

if TYPE_CHECKING:
    from ..runs.records import FinishedTrial

__all__ = ["EqualTime", "equal_time_deltas"]


class EqualTime:
    """Differences at equal time, from the results of a run in order of arrival.

    Args:
        manifest: manifest of the run.

    Attributes:
        known: whether the run has such differences: a guided search with `trial.price`.
    """

    def __init__(self, manifest: Mapping[str, Any]):
        config = manifest.get("config", {})
        guided = config.get("search", {}).get("strategy") in GUIDED_STRATEGIES
        self.known = bool(guided and config["trial"].get("price"))
        self._measured = Measurements(POINTS)

    def record(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Add the result of one trial."""
        if self.known:
            self._measured.record(candidate_id, evaluation)

    def deltas(self) -> dict[int, float]:
        """Return the difference of every candidate that trained its full budget, in nats; empty if none is known."""
        baseline = self._measured.baseline
        if baseline.loss_nats is None:
            return {}
        losses = {number: self._measured.losses(number) for number in self._measured.candidates}
        return {
            number: fmean(values) - baseline.loss_nats + baseline.slope * self._measured.log_price(number).mean
            for number, values in losses.items()
            if values
        }


def equal_time_deltas(manifest: Mapping[str, Any], finished: Sequence[FinishedTrial]) -> dict[int, float]:
    """Return the loss minus the baseline's at equal time, in nats, of every candidate that trained its full budget.

    Args:
        manifest: manifest of the run.
        finished: finished trials of the run, in order of arrival.

    Returns:
        Differences by candidate; empty for runs without such differences.
    """
    equal_time = EqualTime(manifest)
    for trial in finished:
        equal_time.record(trial.candidate_id, trial.evaluation)
    return equal_time.deltas()
