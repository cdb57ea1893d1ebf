"""Trackers of a running search, each in a separate process.

The process reads the run store and needs nothing else from the search. The search only starts the process, checks
whether it has failed, and waits for it for a limited time at the end. So a tracker that raises, hangs or crashes does
not stop or slow down the search. The process ends when its standard input closes, also if the search is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...primitives.errors import PrimerSearchError
from ..runs.run_directory import RunDirectory
from .follow_run import follow_run, tracking_folder

if TYPE_CHECKING:  # loads SQLite
    from ..runs.progress_snapshot import ProgressSnapshot
    from ..runs.store import Store

__all__ = ["TrackerProcesses", "run_trackers", "serve_tracker"]

FINISH_SECONDS = 30.0
"""Longest time for trackers to finish after the search has ended."""

INTERRUPTED_SECONDS = 3.0
"""Longest time for trackers to finish after the search was interrupted."""

INTERRUPTED = b"interrupted"
"""Text that is written to a tracker's standard input before it closes, if the search was interrupted."""

CHECK_SECONDS = 1.0
"""Time between two checks of the processes."""

_CODE = "from primer_search.search.tracking.tracker_process import serve_tracker; serve_tracker()"


class TrackerProcesses:
    """The processes of a search's trackers.

    Args:
        names: names of the trackers.
        store: store of the run, open for writing; failures are noted in its events.
        tell: function that shows a message to the user.
    """

    def __init__(self, names: Sequence[str], store: Store, tell: Callable[[str], None]):
        self._store, self._tell = store, tell
        self._run = store.run
        self._processes = {name: _start(self._run, name) for name in names}
        self._checked_at = time.monotonic()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running trackers, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def check_before(self, observe: Callable[[ProgressSnapshot], None]) -> Callable[[ProgressSnapshot], None]:
        """Return a callback that calls `observe`, and before that checks the trackers, at most once a second."""

        def observed(state: ProgressSnapshot) -> None:
            self._check()
            observe(state)

        return observed

    def close(self, seconds: float = FINISH_SECONDS, interrupted: bool = False) -> None:
        """Wait until the trackers finish, and kill those that do not finish in time.

        Args:
            seconds: longest time to wait for all trackers together.
            interrupted: whether trackers log only the last trials, without the leaderboard and the files of the run.
        """
        until = time.monotonic() + seconds
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.write(INTERRUPTED if interrupted else b"")
                process.stdin.close()
        for name, process in self._processes.items():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._fail(name, f"it did not finish within {seconds:g} s")
            else:
                self._report(name, process)
        self.kill()

    def kill(self) -> None:
        """Kill all processes that are still running."""
        for process in self._processes.values():
            if process.poll() is None:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            _close_pipes(process)
        self._processes = {}

    def _check(self) -> None:
        """Report trackers that have ended."""
        if self._processes and time.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = time.monotonic()
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self._report(name, self._processes.pop(name))

    def _report(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        answer = process.stdout.read().decode(errors="replace").strip()
        _close_pipes(process)
        if process.returncode:
            log = _log(self._run, name)
            self._fail(name, answer or f"its process ended with code {process.returncode} (its output is in {log})")
        else:
            self._tell(f"tracked with {name}: {answer}")

    def _fail(self, name: str, why: str) -> None:
        remedy = f"`primer-search track {self._run.path} --to {name}` logs what is missing"
        self._store.add_event("note", {"why": f"tracking with {name} stopped: {why}"})
        self._tell(f"tracking with {name} stopped: {why}; the search is not affected, and {remedy}")


@contextmanager
def run_trackers(names: Sequence[str], store: Store, tell: Callable[[str], None]) -> Iterator[TrackerProcesses]:
    """Track a run during the block, and give the trackers time to finish after it."""
    processes = TrackerProcesses(names, store, tell)
    try:
        try:
            yield processes
        except BaseException:
            processes.close(INTERRUPTED_SECONDS, interrupted=True)
            raise
        processes.close()
    finally:
        processes.kill()


def _start(run: RunDirectory, name: str) -> subprocess.Popen[bytes]:
    """Start the process of a tracker. The output of its library goes to a log in the run's folder."""
    tracking_folder(run.path).mkdir(exist_ok=True)
    # A tracker uses only the CPU, and its library sends no usage statistics.
    environment = {"JAX_PLATFORMS": "cpu", "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
    with _log(run, name).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _CODE, str(run.path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment, **os.environ, "JAX_PLATFORMS": "cpu"},
            start_new_session=True,  # Ctrl-C stops the search, and this process still logs its last trials
        )


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _log(run: RunDirectory, name: str) -> Path:
    return tracking_folder(run.path) / f"{name}.log"


def serve_tracker() -> None:
    """Log a run until standard input closes; the main function of a tracker's process.

    Prints one line: the command or address that shows what was logged, or the error.
    """
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the output of libraries goes to the log
    with suppress(AttributeError, OSError):
        os.nice(10)
    ended, last_input = threading.Event(), []

    def watch() -> None:
        last_input.append(sys.stdin.buffer.read())
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    code = 0
    try:
        tracked = follow_run(
            *(Path(sys.argv[1]), sys.argv[2]),
            wait_for_more=lambda seconds: not ended.wait(seconds),
            finish=lambda: INTERRUPTED not in last_input,
        )
        answer = tracked.where
    except PrimerSearchError as error:
        answer, code = str(error), 1
    print(answer, file=output, flush=True)
    sys.stderr.flush()
    os._exit(code)  # exit hooks of libraries may wait for a server
