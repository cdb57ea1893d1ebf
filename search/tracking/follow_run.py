"""Log a run with one tracker: the trials that are not logged yet, and those that finish until the search ends.

`RUN/tracking/NAME.json` records how far the run is logged, so that a later session continues from there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...primitives.errors import UsageError
from ...primitives.programs.program_json import dna_to_json
from ...system.files import write_atomically
from ...system.locks import try_lock
from .events_to_trials import TrialReader
from .tracked_records import TrackedEnd, TrackedRun, flatten_settings
from .tracker import Tracker, explain_tracker_errors
from .tracker_names import open_tracker

if TYPE_CHECKING:  # loads SQLite
    from ..runs.store import Store

__all__ = ["Tracked", "follow_run", "tracking_folder"]

POLL_SECONDS = 1.0
"""Time between two checks for new trials."""

LOCK_SECONDS = 30.0
"""Longest wait for an earlier process that is still logging the run."""

ROWS = 20
"""Number of rows of the leaderboard that are logged as a table."""


@dataclass(slots=True)
class Tracked:
    """What a tracker has logged of a run.

    Attributes:
        sequence: number of the last event that is logged.
        state: state of the tracker; see `Tracker.state`.
        where: command or address that shows what was logged.
        trials: number of trials that this session logged.
    """

    sequence: int = 0
    state: dict[str, str] = field(default_factory=dict)
    where: str = ""
    trials: int = 0

    @staticmethod
    def read(path: Path) -> Tracked:
        """Return what an earlier session saved; a missing or damaged file means that nothing is logged."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads(path.read_text(encoding="utf-8"))
            return Tracked(int(values["sequence"]), dict(values["state"]), str(values["where"]))
        return Tracked()

    def save(self, path: Path) -> None:
        """Write this record to a file."""
        values: dict[str, Any] = {"sequence": self.sequence, "state": self.state, "where": self.where}
        write_atomically(path, json.dumps(values))


def tracking_folder(run: Path) -> Path:
    """Return the folder of a run for the files of trackers."""
    return run / "tracking"


def follow_run(
    run: Path | str, name: str, wait_for_more: Callable[[float], bool], finish: Callable[[], bool] = lambda: True
) -> Tracked:
    """Log a run until it ends.

    Args:
        run: name or path of the run.
        name: name of the tracker.
        wait_for_more: function that waits up to the given seconds and returns whether the search may still add trials.
        finish: function that is called after the last trial. It returns whether to log the end of the run (leaderboard
            and files, which take seconds). If not, a later session logs the end.

    Raises:
        UsageError: the run does not exist, its folder cannot be written, or another process logs it with this tracker.
        WorkFailedError: the tracker failed. What it logged before is kept.
    """
    from ..runs.store import Store

    with Store.open(run, read_only=True) as store:
        folder = tracking_folder(store.run.path)
        with _lock(folder, name):
            tracked = Tracked.read(folder / f"{name}.json")
            with explain_tracker_errors(name):
                tracker = open_tracker(name, _tracked_run(store, folder.resolve()), tracked.state)
                tracked.where = tracker.where
                try:
                    saved = folder / f"{name}.json"
                    last = _log_trials(store, tracker, tracked, saved, wait_for_more)
                    if finish():
                        _log_end(store, tracker, tracked, saved, last)
                finally:
                    tracker.close()
    return tracked


def _log_trials(
    store: Store, tracker: Tracker, tracked: Tracked, saved: Path, wait_for_more: Callable[[float], bool]
) -> int:
    """Log the trials, and return the number of the last event that was read."""
    reader = TrialReader(store, tracked.sequence)
    more = True
    while more:
        more = wait_for_more(POLL_SECONDS if reader.sequence else 0.0)  # before reading, so that the last trial is read
        for trial, progress in reader.new_trials():
            tracker.log_trial(trial)
            tracker.log_progress(progress)
            tracked.trials += 1
            tracked.sequence, tracked.state = reader.sequence, tracker.state
            tracked.save(saved)
    return reader.sequence


def _log_end(store: Store, tracker: Tracker, tracked: Tracked, saved: Path, last: int) -> None:
    """Log the end of the run, if anything has happened since an earlier session logged it."""
    if last > tracked.sequence or tracked.trials:
        with tempfile.TemporaryDirectory() as folder:
            tracker.log_end(_tracked_end(store, Path(folder)))
    tracked.sequence, tracked.state = last, tracker.state
    tracked.save(saved)


def _tracked_run(store: Store, folder: Path) -> TrackedRun:
    manifest = store.manifest
    name = store.run.path.resolve().name
    return TrackedRun(name, folder, flatten_settings(manifest), float(manifest.get("started_at", 0.0)))


def _tracked_end(store: Store, folder: Path) -> TrackedEnd:
    from ..reports.pages.run_page import write_report
    from ..reports.phrases import headline
    from ..results.leaderboard import leaderboard
    from ..results.program_reference import find_candidate_id

    board = leaderboard(store)
    files = [folder / "report.html", folder / "leaderboard.json"]
    write_report(store, files[0])
    files[1].write_text(json.dumps(board.to_dict(), allow_nan=False), encoding="utf-8")
    with suppress(UsageError):  # no candidate has finished a full trial
        best = folder / "best_dna.json"
        best.write_text(dna_to_json(store.candidate(find_candidate_id(store, "best")).dna), encoding="utf-8")
        files.append(best)
    lines = ["| rank | candidate | loss nats | bits/byte | result |", "|--:|--:|--:|--:|---|"]
    for row in board.rows[:ROWS]:
        cells = ("" if value is None else f"{value:.4f}" for value in (row.loss_nats, row.bits_per_byte))
        lines.append(f"| {row.rank or ''} | {row.id} | {' | '.join(cells)} | {row.verdict.replace('|', '/')} |")
    return TrackedEnd(headline(board), "\n".join(lines), tuple(files))


@contextmanager
def _lock(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time log a run with a tracker."""
    try:
        folder.mkdir(exist_ok=True)
        file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write in {folder}: {error.strerror}; check its permissions") from error
    try:
        if not try_lock(file, timeout_seconds=LOCK_SECONDS):
            raise UsageError(f"another process logs run {folder.parent} with {name}: wait until it ends")
        yield
    finally:
        os.close(file)
