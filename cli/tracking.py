"""The command `track`: log a run to an experiment tracker. It only parses options and prints."""

from __future__ import annotations

import os
import time
from typing import Annotated, Literal

import typer

from .options import Run, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(track)


def track(
    run: Run,
    to: Annotated[
        Literal["tensorboard", "wandb", "mlflow"], typer.Option(help="Tracker to log to.", show_default=False)
    ],
) -> None:
    """Log a run to an experiment tracker, without the trials that are logged already.

    While the search runs, new trials are logged until it ends. See docs/tracking.md.
    """
    from ..search.runs.run_directory import find_run
    from ..search.tracking.follow_run import follow_run
    from ..search.tracking.tracker_names import check_trackers

    check_trackers([to])
    directory = find_run(run)
    os.environ["JAX_PLATFORMS"] = "cpu"

    def wait_for_more(seconds: float) -> bool:
        if directory.controller() is None:
            return False
        time.sleep(seconds)
        return True

    tracked = follow_run(directory.path, to, wait_for_more)
    say(f"logged {tracked.trials} trials: {tracked.where}")
