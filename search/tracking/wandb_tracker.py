"""Weights & Biases: a run for the search and one for each trial, in a group with the name of the search.

W&B's own environment variables apply, such as WANDB_MODE=offline, WANDB_PROJECT and WANDB_ENTITY. Its files are in
`RUN/tracking/wandb`.
"""

from __future__ import annotations

import os
import shlex
import zlib
from typing import Any

import wandb

from .tracked_records import TrackedEnd, TrackedProgress, TrackedRun, TrackedTrial

__all__ = ["WandbTracker", "open_tracker"]

PROJECT = "primer-search"


def open_tracker(run: TrackedRun, state: dict[str, str]) -> WandbTracker:
    """Open the W&B run of a search."""
    return WandbTracker(run, state)


class WandbTracker:
    """Logs to W&B; see `Tracker`."""

    def __init__(self, run: TrackedRun, state: dict[str, str]):
        self._run = run
        # A later session computes the same ids, so it adds to the runs of this one.
        self._id = f"{run.name}-{zlib.crc32(str(run.started_at).encode()):08x}"
        self.state = {"id": self._id}
        self._search = self._open(f"{self._id}-search", "search", run.name, dict(run.settings))
        offline = shlex.quote(str(run.folder / "wandb")) + "/offline-run-*"
        self.where = f"wandb sync {offline}" if self._search.offline else self._search.url

    def log_trial(self, trial: TrackedTrial) -> None:
        run = self._open(f"{self._id}-{trial.trial_id}", "trial", trial.name, trial.facts)
        points: dict[int, dict[str, float]] = {}
        for name, curve in trial.curves.items():
            for steps, loss in curve:
                points.setdefault(steps, {})[name] = loss
        for steps, values in sorted(points.items()):
            run.log(values, step=steps)
        run.summary.update({**trial.metrics, "outcome": trial.evaluation.outcome})
        run.finish()

    def log_progress(self, progress: TrackedProgress) -> None:
        self._search.log(progress.metrics, step=progress.trials)

    def log_end(self, end: TrackedEnd) -> None:
        self._search.summary["headline"] = end.headline
        artifact = wandb.Artifact(f"{self._id}-result", "result", description=end.headline)
        for file in end.files:
            artifact.add_file(str(file))
        self._search.log_artifact(artifact)

    def close(self) -> None:
        self._search.finish()
        wandb.teardown()

    def _open(self, run_id: str, job: str, name: str, config: dict[str, Any]) -> Any:
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self._run.name,
            job_type=job,
            name=name,
            id=run_id,
            resume=None if os.environ.get("WANDB_MODE") == "offline" else "allow",
            dir=str(self._run.folder),
            config=config,
            reinit="create_new",
            settings=settings,
        )
