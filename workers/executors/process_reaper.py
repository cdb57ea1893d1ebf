"""The process reaper, which kills processes and checks that they are gone."""

from __future__ import annotations

import logging
import time

import psutil

from ...system.host import is_alive, kill_process_tree, process_tree

__all__ = ["ProcessReaper"]

_log = logging.getLogger(__name__)

_GONE_SECONDS = 5.0
"""Time after which a killed process should be gone."""


class ProcessReaper:
    """Kills processes, and warns if one does not end."""

    def __init__(self) -> None:
        self._killed: list[tuple[float, psutil.Process]] = []

    def kill(self, process: psutil.Process) -> None:
        """Kill a process and its descendants, without waiting."""
        self._killed += [(time.monotonic(), killed) for killed in kill_process_tree(process)]

    def check(self) -> None:
        """Forget the processes that are gone. Warn once about each process that exists after `_GONE_SECONDS`."""
        now, alive = time.monotonic(), [(when, process) for when, process in self._killed if is_alive(process)]
        for when, process in alive:
            if now - when > _GONE_SECONDS:
                _log.warning("worker process %d was killed but still exists", process.pid)
        self._killed = [(when, process) for when, process in alive if now - when <= _GONE_SECONDS]

    def pending(self, daemons: list[psutil.Process]) -> list[psutil.Process]:
        """Return the processes that `finish` should wait for: killed ones, these daemons and their descendants."""
        return [process for _, process in self._killed] + process_tree(daemons)

    def finish(self, processes: list[psutil.Process]) -> None:
        """Wait until processes end, and kill those that do not end in time."""
        _, alive = psutil.wait_procs(processes, timeout=_GONE_SECONDS)
        for process in alive:
            kill_process_tree(process)
        self._killed = []
