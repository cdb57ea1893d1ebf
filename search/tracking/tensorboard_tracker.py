"""TensorBoard: event files in `RUN/tracking/tensorboard`, a folder for the search and one for each trial.

    tensorboard --logdir RUN/tracking/tensorboard

The files are written with tensorboardX, which needs neither TensorFlow nor PyTorch.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from .tracked_records import TrackedEnd, TrackedProgress, TrackedRun, TrackedTrial

__all__ = ["TensorBoardTracker", "open_tracker"]

HPARAMS = ("candidate", "parent", "outcome", "mutations")
"""Facts of a trial in the table of TensorBoard's HParams page."""

METRICS = ("loss_nats", "bits_per_byte", "step_ms", "parameters")
"""Metrics of a trial in that table."""

LONGEST_TEXT = 100_000
"""Largest number of characters of a file that are logged as text."""


def open_tracker(run: TrackedRun, state: dict[str, str]) -> TensorBoardTracker:
    """Open the event files of a run."""
    return TensorBoardTracker(run, run.folder / "tensorboard", state)


class TensorBoardTracker:
    """Writes event files; see `Tracker`."""

    def __init__(self, run: TrackedRun, folder: Path, state: dict[str, str]):
        self.state = state
        self.where = f"tensorboard --logdir {shlex.quote(str(folder))}"
        self._folder = folder
        # File names have a time in whole seconds. Without a number, a session could replace a file of the same second.
        number = sum(1 for _ in (folder / "search").glob("events.*"))
        self._search = SummaryWriter(str(folder / "search"), filename_suffix=f".{number:06d}")
        self._trials = 0
        self._at = run.started_at
        if not state:
            rows = (f"| {name} | {value} |" for name, value in run.settings.items())
            self._search.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), 0, self._at)
            self.state = {"written": "yes"}

    def log_trial(self, trial: TrackedTrial) -> None:
        folder = self._folder / f"candidate-{trial.candidate_id}" / f"trial-{trial.trial_id}"
        with SummaryWriter(str(folder)) as writer:
            for name, points in trial.curves.items():
                for steps, loss in points:
                    writer.add_scalar(name, loss, steps, trial.ended_at)
            facts = {name: value for name in HPARAMS if (value := trial.facts[name]) is not None}
            metrics = {f"trial/{name}": trial.metrics[name] for name in METRICS if name in trial.metrics}
            assert writer.file_writer is not None
            for summary in hparams(facts, metrics):
                writer.file_writer.add_summary(summary)
            for name, value in trial.metrics.items():
                writer.add_scalar(f"trial/{name}", value, 0, trial.ended_at)

    def log_progress(self, progress: TrackedProgress) -> None:
        for name, value in progress.metrics.items():
            self._search.add_scalar(f"search/{name}", value, progress.trials, progress.at)
        self._search.flush()
        self._trials, self._at = progress.trials, progress.at

    def log_end(self, end: TrackedEnd) -> None:
        self._search.add_text("leaderboard", f"{end.headline}\n\n{end.leaderboard}", self._trials, self._at)
        for file in end.files:
            if file.suffix == ".json":
                content = file.read_text(encoding="utf-8")
                self._search.add_text(file.stem, f"```\n{content[:LONGEST_TEXT]}\n```", self._trials, self._at)

    def close(self) -> None:
        self._search.close()
