"""The interface of a tracker, and the errors of its library as this package's own."""

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
"""Characters of a library's error that a message holds; the whole is its cause."""


class Tracker(Protocol):
    """Logs one run. All methods may raise whatever the library raises.

    Attributes:
        state: what the tracker needs to continue the run later, as JSON strings by name; saved after each trial.
        where: how to look at what was logged, such as a command or an address.
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
        """Log the leaderboard and the files of the run, when all trials are logged."""
        ...

    def close(self) -> None:
        """Send what is left, and close the run; called once, also after `log_end`."""
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
