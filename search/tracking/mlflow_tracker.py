"""MLflow: a run for the search, and a nested run for each trial.

MLflow's own environment variables apply, such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME. If MLFLOW_TRACKING_URI
is not set, MLflow stores runs in a SQLite file in the current folder.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

import mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from .tracked_records import Scalar, TrackedEnd, TrackedProgress, TrackedRun, TrackedTrial

__all__ = ["MlflowTracker", "open_tracker"]

EXPERIMENT = "primer-search"

BATCH = 100
"""Largest number of parameters or metrics in one request; MLflow's limits are 100 and 1,000."""

LONGEST_PARAMETER = 6000
"""Longest text of a parameter that MLflow accepts, in characters."""


def open_tracker(run: TrackedRun, state: dict[str, str]) -> MlflowTracker:
    """Open the MLflow run of a search."""
    return MlflowTracker(run, state)


class MlflowTracker:
    """Logs to MLflow; see `Tracker`."""

    def __init__(self, run: TrackedRun, state: dict[str, str]):
        uri = mlflow.get_tracking_uri()
        self._client = MlflowClient(uri)
        self.where = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        self._at = run.started_at
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(name)
        if state.get("uri") == uri:  # in another store, a new run is started
            self._search = state["run_id"]
            self._client.update_run(self._search, "RUNNING")
        else:
            self._search = self._start(run.name, run.started_at, {})
            self._log_parameters(self._search, run.settings)
        self.state = {"uri": uri, "run_id": self._search}

    def log_trial(self, trial: TrackedTrial) -> None:
        run = self._start(trial.name, trial.started_at, {MLFLOW_PARENT_RUN_ID: self._search})
        self._log_parameters(run, trial.facts)
        at = _milliseconds(trial.ended_at)
        points = [Metric(name, loss, at, steps) for name, curve in trial.curves.items() for steps, loss in curve]
        points += [Metric(name, value, at, 0) for name, value in trial.metrics.items()]
        for first in range(0, len(points), BATCH):
            self._client.log_batch(run, metrics=points[first : first + BATCH])
        failed = trial.evaluation.kind not in ("ok", "stopped_at_hurdle")
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED", at)

    def log_progress(self, progress: TrackedProgress) -> None:
        self._at = progress.at
        points = [Metric(*item, _milliseconds(progress.at), progress.trials) for item in progress.metrics.items()]
        self._client.log_batch(self._search, metrics=points)

    def log_end(self, end: TrackedEnd) -> None:
        self._client.set_tag(self._search, "mlflow.note.content", f"{end.headline}\n\n{end.leaderboard}")
        for file in end.files:
            self._client.log_artifact(self._search, str(file))

    def close(self) -> None:
        self._client.set_terminated(self._search, "FINISHED", _milliseconds(self._at))

    def _start(self, name: str, started_at: float, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, _milliseconds(started_at), tags, name)
        return run.info.run_id

    def _log_parameters(self, run_id: str, values: Mapping[str, Scalar]) -> None:
        parameters = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in values.items()]
        for first in range(0, len(parameters), BATCH):
            self._client.log_batch(run_id, params=parameters[first : first + BATCH])


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
