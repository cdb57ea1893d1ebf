"""A run: its trainings as they arrive, its leaderboard, its tables and its candidates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..configs.plan import duration
from ..models.parameter_range import dna_at_unit
from ..primitives.errors import UsageError
from ..search.config import RunConfig
from ..search.results.leaderboard import leaderboard
from ..search.results.leaderboard_rows import Leaderboard
from ..search.results.program_reference import find_candidate_id
from ..search.runs.records import FinishedTrial
from ..search.runs.run_directory import RunDirectory, find_run
from ..search.runs.run_settings import load_config
from ..search.runs.store import Store
from ..search.runs.time_accounting import active_seconds, find_sessions
from ..search.tracking.tracker_names import TrackerName, check_trackers
from .run_candidate import RunCandidate
from .search_process import SearchProcess

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Rows", "Run", "open_run"]

Rows = Literal["candidates", "trainings"]
"""Rows of a table: the candidates as on the leaderboard, or the finished trainings."""

POLL_SECONDS = 0.5
"""Seconds between two reads of a run while a method waits for it."""

_NOT_COLUMNS = ("curve", "hurdle_losses", "hurdle_steps")


def open_run(path: Path | str) -> Run:
    """Return a stored run, also while another process is searching.

    Args:
        path: directory of the run, or its name under `runs/`.

    Raises:
        UsageError: the directory does not hold a run.
    """
    return Run(find_run(path))


class Run:
    """A run, as `start_search` and `open_run` return it. All methods except `resume`, `stop` and `report` only read it.

    Attributes:
        path: directory of the run.
    """

    def __init__(self, directory: RunDirectory, process: SearchProcess | None = None):
        self.path = directory.path
        self._directory = directory
        self._process = process

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}{', running' if self.running else ''})"

    @property
    def running(self) -> bool:
        """Whether a search is running that writes to this run."""
        return (self._process is not None and self._process.running) or self._directory.controller() is not None

    @property
    def config(self) -> RunConfig:
        """All settings of the run."""
        with self._open() as store:
            return load_config(store)

    @property
    def manifest(self) -> dict[str, Any]:
        """Description of the run as JSON values: command, random seed, versions, hash of the text, ..."""
        with self._open() as store:
            return store.manifest

    def evaluations(self, follow: bool = False) -> Iterator[FinishedTrial]:
        """Yield the finished trainings in order of arrival.

        Args:
            follow: whether to wait for further trainings, and yield them as they arrive, until the search ends.
        """
        last = 0
        while True:
            running = follow and self.running  # before reading, so that the last training is read
            with self._open() as store:
                finished = store.evaluations(last)
            for trial in finished:
                last = trial.sequence
                yield trial
            if not running:
                return
            time.sleep(POLL_SECONDS)

    def leaderboard(self, top: int | None = None) -> Leaderboard:
        """Return the first `top` candidates by rank (None: all), the baseline's noise, and totals of the run."""
        with self._open() as store:
            return leaderboard(store, top)

    def table(self, rows: Rows = "candidates") -> list[dict[str, Any]]:
        """Return the run as a table: one dict of plain values for each row.

        Args:
            rows: `candidates` in the order of the leaderboard, or `trainings` in order of arrival.
        """
        if rows == "candidates":
            return [_candidate_row(row) for row in self.leaderboard().to_dict()["candidates"]]
        if rows == "trainings":
            return self._trainings()
        raise UsageError(f"rows is {rows!r}: choose candidates or trainings")

    def to_pandas(self, rows: Rows = "candidates") -> DataFrame:
        """Return `table` as a pandas data frame.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise UsageError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame(self.table(rows))

    def candidate(self, named: int | str) -> RunCandidate:
        """Return a candidate.

        Args:
            named: number of the candidate, `best` or `baseline`.

        Raises:
            UsageError: the run does not have the candidate.
        """
        with self._open() as store, store.snapshot():
            found = store.candidate(find_candidate_id(store, str(named)))
            model = load_config(store).model
        dna = dna_at_unit(found.dna, model, found.unit)
        if found.unit is not None:
            model = replace(model, unit=found.unit, parameter_range=())
        return RunCandidate(self.path, found.id, dna, found.parent, found.mutations, model)

    def best(self) -> RunCandidate:
        """Return the best retrained candidate; if none was retrained, the best of the search. Never the baseline.

        Raises:
            UsageError: no candidate has finished a full training yet.
        """
        return self.candidate("best")

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the search ends, and return whether it has. Ctrl-C ends the waiting, not the search.

        Raises:
            UsageError, WorkFailedError: the search that this object started has failed.
        """
        if self._process is not None:
            return self._process.wait(timeout_seconds)
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.running and (until is None or time.monotonic() < until):
            time.sleep(POLL_SECONDS)
        return not self.running

    def stop(self) -> None:
        """Ask the search to save its state and stop, and wait until it has; without a search, do nothing."""
        if self.running:
            self._directory.request_stop()
            self.wait()

    def resume(self, budget: str | None = None, *, track: Sequence[TrackerName] = ()) -> None:
        """Continue the search in a separate process.

        Args:
            budget: further wall-clock time, such as `10m`; None: what is left of the run's budget.
            track: experiment trackers that also log the trials.

        Raises:
            UsageError: a search already writes the run, or an argument is invalid.
        """
        if self.running:
            raise UsageError(f"run {self.path} is already running: wait until it ends, or stop it first")
        if budget is not None:
            duration("budget", budget)
        words = [word for name in check_trackers(track) for word in ("--track", name)]
        words += [] if budget is None else ["--budget", budget]
        sessions = self._sessions()
        self._process = SearchProcess(["resume", str(self.path), *words])
        while self._process.running and self._sessions() == sessions:
            time.sleep(POLL_SECONDS)
        if not self._process.running:
            self._process.wait()  # raises the error

    def report(self, path: Path | str | None = None) -> Path:
        """Write the report as one HTML page, by default `report.html` in the run's directory, and return its path."""
        from ..search.reports.pages.run_page import write_report

        with self._open() as store:
            page = store.run.report if path is None else Path(path)
            write_report(store, page)
        return page

    def _open(self) -> Store:
        return Store.open(self.path, read_only=True)

    def _sessions(self) -> int:
        with self._open() as store:
            return store.event_count("run_resumed")

    def _trainings(self) -> list[dict[str, Any]]:
        with self._open() as store, store.snapshot():
            sessions, finished, ancestry = find_sessions(store.events()), store.evaluations(), store.ancestry()
        table = []
        for trial in finished:
            values = {name: value for name, value in trial.evaluation.to_dict().items() if name not in _NOT_COLUMNS}
            at = active_seconds(sessions, trial.sequence, trial.wall_time)
            parent = ancestry[trial.candidate_id].parent
            head = {"trial": trial.trial_id, "candidate": trial.candidate_id, "parent": parent, "at_seconds": at}
            table.append({**head, **values})
        return table


def _candidate_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the leaderboard with its edits as text, the oldest first."""
    edits = "; ".join(sentence for step in row["lineage"] for sentence in step["mutations"])
    return {**{name: value for name, value in row.items() if name != "lineage"}, "edits": edits}
