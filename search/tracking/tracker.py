"""The interface of a tracker, and the conversion of its library's errors to errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Protocol

from ...primitives.errors import PrimerSearchError, WorkFailedError
from ...system.error_text import error_summary
from .tracked_records import TrackedEnd, TrackedProgress, TrackedTrial

__all__ = ["Tracker", "explain_tracker_errors"]

LONGEST_ERROR = 200
"""Longest part of a library's error in a message, in characters; the whole error is the exception's cause."""


class Tracker(Protocol):
    """Logs one run. All methods may raise whatever the library raises.

    Attributes:
        state: values that the tracker needs to continue the run later, as strings by name; saved after each trial.
        where: command or address that shows what was logged.
    """

    state: dict[str, str]
    where: str

    def log_trial(self, trial: TrackedTrial) -> None:
        """Log a finished trial with its curves, as a separate run."""
        ...

    def log_progress(self, progress: TrackedProgress) -> None:
        """Log the state of the search after a trial."""
        ...

    def log_end(self, end: TrackedEnd) -> None:
        """Log the leaderboard and the files of the run, after all trials."""
        ...

    def close(self) -> None:
        """Send what is not sent yet, and close the run. This is called once, also after `log_end`."""
        ...


@contextmanager
def explain_tracker_errors(name: str) -> Iterator[None]:
    """Turn the errors of a tracker's library into WorkFailedError, in one sentence that names the tracker."""
    try:
        yield
    except PrimerSearchError:
        raise
    except Exception as error:
        raise WorkFailedError(f"{name} failed with {shorten(error_summary(error), LONGEST_ERROR)}") from error
