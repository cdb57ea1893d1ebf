"""Differences from the baseline at equal time, for runs whose trainings are counted in steps.

Such a run compares programs after the same number of steps. A step of one program may take longer than a step of
another. So each difference is also given with the price of its steps, `slope * log(step time / the baseline's)` (see
`search.guided.measurements`): an estimate of the difference after the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..guided.guided_search import POINTS
from ..guided.make_strategy import GUIDED_STRATEGIES
from ..guided.measurements import Measurements

if TYPE_CHECKING:
    from ..runs.records import FinishedTrial

__all__ = ["equal_time_deltas"]


def equal_time_deltas(manifest: Mapping[str, Any], finished: Sequence[FinishedTrial]) -> dict[int, float]:
    """Return the loss minus the baseline's at equal time, in nats, of every candidate that trained its full budget.

    Args:
        manifest: manifest of the run.
        finished: its finished trials, in order of arrival.

    Returns:
        Differences by candidate; empty for runs of other strategies.
    """
    config = manifest.get("config", {})
    if config.get("search", {}).get("strategy") not in GUIDED_STRATEGIES or not config["trial"].get("price"):
        return {}
    measured = Measurements(POINTS)
    for trial in finished:
        measured.record(trial.candidate_id, trial.evaluation)
    baseline = measured.baseline
    if baseline.loss_nats is None:
        return {}
    losses = {number: measured.losses(number) for number in measured.candidates}
    return {
        number: fmean(values) - baseline.loss_nats + baseline.slope * measured.log_price(number).mean
        for number, values in losses.items()
        if values
    }
