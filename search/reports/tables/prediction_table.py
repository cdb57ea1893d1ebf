"""Predictions of a guided search as text: their calibration in words, and the table of stopped trainings."""

from __future__ import annotations

from ....system.plurals import pluralize
from ...evolution.candidate import candidate_name
from ...results.trust.prediction_calibration import PredictionCalibration, Stop, StoppedTraining

__all__ = ["format_calibration", "format_stop", "stopped_cells"]


def format_calibration(predictions: PredictionCalibration | None) -> str:
    """Format the stops in one short line; empty for runs without predictions."""
    if predictions is None:
        return ""
    words = " · ".join(map(_stop_in_short, predictions.stops))
    return words + ("; 68% if calibrated" if predictions.checked else "")


def _stop_in_short(stop: Stop) -> str:
    words = f"{stop.stopped:,} stopped at {stop.share:.0%} of the budget"
    if stop.median_error_nats is None or stop.within_one_sd is None:
        return words
    return f"{words} (median error {stop.median_error_nats:.4f} nats, {stop.within_one_sd:.0%} within one sd)"


def format_stop(stop: Stop) -> str:
    """Format how many trainings a stop ended, and how good its predictions were."""
    words = f"at {stop.share:.0%} of the budget, {pluralize(stop.stopped, 'training')} stopped"
    if stop.median_error_nats is None or stop.within_one_sd is None or stop.within_two_sds is None:
        return f"{words}, no prediction checked yet"
    return (
        f"{words}; {stop.checked:,} reached the end ({stop.unstoppable:,} not stoppable): "
        f"median error {stop.median_error_nats:.4f} nats, {stop.within_one_sd:.0%} within one predicted standard "
        f"deviation, {stop.within_two_sds:.0%} within two"
    )


def stopped_cells(training: StoppedTraining) -> dict[str, str]:
    """Return a stopped training as text, by column."""
    return {
        "id": candidate_name(training.candidate_id),
        "stopped at": f"{training.share:.0%}",
        "predicted": f"{training.predicted.mean:.4f} ± {training.predicted.sd:.4f}",
        "price": f"{training.price_nats:+.4f}",
        "limit": f"{training.limit_nats:.4f}",
        "mutation": "; ".join(training.mutations),
    }
