"""One worker slot of the Ray executor: its current actor, stage and trial."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from ..protocol import Progress, TrialRequest, WorkerStatus
from .trial_limits import TrialLimits
from .watchdog import Watch
from .worker_process import HostInfo

__all__ = ["Slot", "Stage"]

Stage = Literal["absent", "starting", "preparing", "idle", "training"]


@dataclass(slots=True, eq=False)
class Slot:
    """One worker slot. `clear_actor` resets all fields except `number`, `failures`, `deaths` and `restart_after`.

    Attributes:
        number: number of the slot, from 0.
        failures: number of consecutive failures to start an actor.
        deaths: number of consecutive trials in which an actor died.
        restart_after: earliest time of the next start (`time.monotonic`).
        stage: stage of the worker.
        pending: Ray's reference of the answer that the executor awaits in this stage.
        since: start of the stage (`time.monotonic`).
        actor: handle of the actor.
        host: machine of the actor.
        cores: cores of the worker on that machine.
        process: process of the actor; None on another machine, where signals do not reach it.
        limits: limits of the worker's trials.
        base_bytes: memory that the worker held before its first trial.
        request, watch, progress: the current trial.
        report, reported: pending progress report, and the time at which it was requested.
    """

    number: int
    failures: int = 0
    deaths: int = 0
    restart_after: float = 0.0
    stage: Stage = "absent"
    pending: Any = None
    since: float = 0.0
    actor: Any = None
    host: HostInfo | None = None
    cores: tuple[int, ...] = ()
    process: psutil.Process | None = None
    limits: TrialLimits | None = None
    base_bytes: int = 0
    request: TrialRequest | None = None
    watch: Watch | None = None
    progress: Progress | None = None
    report: Any = None
    reported: float = 0.0

    @property
    def seconds(self) -> float:
        """Time since the start of the stage."""
        return time.monotonic() - self.since

    def enter(self, stage: Stage, pending: Any = None) -> None:
        """Enter a stage that starts now. `pending` is the answer that ends it."""
        self.stage, self.pending, self.since = stage, pending, time.monotonic()

    def clear_trial(self) -> None:
        """Reset the fields of the trial."""
        self.request = self.watch = self.progress = self.report = None

    def clear_actor(self) -> None:
        """Reset the fields of the actor and its trial. The stage is `absent` afterwards."""
        self.clear_trial()
        self.actor = self.host = self.process = self.limits = None
        self.cores = ()
        self.enter("absent")

    def leaks_memory(self, held_bytes: int) -> bool:
        """Return whether memory that earlier trials did not free could make the next trial exceed the limit."""
        limit = self.limits.memory_bytes if self.limits else 0
        return bool(limit) and held_bytes > (self.base_bytes + limit) / 2

    def status(self) -> WorkerStatus:
        """Return the latest known status."""
        seen = self.progress or Progress("starting" if self.stage == "preparing" else self.stage)
        trial, candidate = (self.request.trial_id, self.request.candidate_id) if self.request else (None, None)
        return WorkerStatus(
            self.number, trial, candidate, seen.phase, seen.spent, seen.budget, self.seconds, seen.loss_nats
        )
