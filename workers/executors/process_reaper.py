"""Killed processes, until they are gone."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import psutil

from ...system.host import kill_process_tree
from ..devices.ray_environment import descendants

__all__ = ["ProcessReaper"]

_log = logging.getLogger(__name__)

_GONE_SECONDS = 5.0


class ProcessReaper:
    """Kills processes for good, and says so where one will not go."""

    def __init__(self) -> None:
        self._killed: list[tuple[float, psutil.Process]] = []

    def kill(self, process: psutil.Process) -> None:
        """Kill a process and all under it; returns at once."""
        self._killed += [(time.monotonic(), killed) for killed in kill_process_tree(process)]

    def check(self) -> None:
        """Forget processes that are gone; say so once where one is not after five seconds."""
        now, there = time.monotonic(), [(when, process) for when, process in self._killed if _is_alive(process)]
        for when, process in there:
            if now - when > _GONE_SECONDS:
                _log.warning("worker process %d was killed and is still there", process.pid)
        self._killed = [(when, process) for when, process in there if now - when <= _GONE_SECONDS]

    def family(self, daemons: list[psutil.Process]) -> list[psutil.Process]:
        """All that was killed, and what runs under these daemons: for `finish`, once they were told to end."""
        return [process for _, process in self._killed] + descendants(daemons)

    def finish(self, family: list[psutil.Process]) -> None:
        """Wait for processes to go, and kill those that do not."""
        _, alive = psutil.wait_procs(family, timeout=_GONE_SECONDS)
        for process in alive:
            kill_process_tree(process)
        self._killed = []


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
