"""One slot of an executor: the actor that fills it at the moment, its stage and its trial."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from ..protocol import Progress, TrialRequest, WorkerStatus
from .watchdog import Limits, Watch
from .worker_process import HostInfo

__all__ = ["Slot", "Stage"]

Stage = Literal["absent", "starting", "preparing", "idle", "training"]


@dataclass(slots=True, eq=False)
class Slot:
    """A worker's place; everything but its number and its failures goes with the actor.

    Attributes:
        number: from 0.
        failures: how often in a row its actor failed to start.
        restart_after: when the next actor may be made (`time.monotonic`).
        stage: what it does; `pending` is the one answer awaited in that stage.
        since: when it entered the stage (`time.monotonic`).
        actor: its actor's handle.
        home: where the actor landed.
        cores: its share of that machine.
        process: the actor's process, where signals reach it; None on another machine.
        limits: of its trials.
        base_bytes: memory it held before its first trial.
        request, watch, progress: of the trial in flight.
        report, reported: the report asked for, and when.
    """

    number: int
    failures: int = 0
    restart_after: float = 0.0
    stage: Stage = "absent"
    pending: Any = None
    since: float = 0.0
    actor: Any = None
    home: HostInfo | None = None
    cores: tuple[int, ...] = ()
    process: psutil.Process | None = None
    limits: Limits | None = None
    base_bytes: int = 0
    request: TrialRequest | None = None
    watch: Watch | None = None
    progress: Progress | None = None
    report: Any = None
    reported: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been in its stage."""
        return time.monotonic() - self.since

    def enter(self, stage: Stage, pending: Any = None) -> None:
        """Go on to a stage, and await its answer."""
        self.stage, self.pending, self.since = stage, pending, time.monotonic()

    def clear_trial(self) -> None:
        """Drop what belongs to the trial."""
        self.request = self.watch = self.progress = self.report = None

    def clear_actor(self) -> None:
        """Drop what belongs to the actor, and be absent."""
        self.clear_trial()
        self.actor = self.home = self.process = self.limits = None
        self.cores = ()
        self.enter("absent")

    def leaks_memory(self, held_bytes: int) -> bool:
        """Whether earlier trials left so much behind that an innocent one may meet the limit."""
        limit = self.limits.memory_bytes if self.limits else 0
        return bool(limit) and held_bytes > (self.base_bytes + limit) / 2

    def status(self) -> WorkerStatus:
        """What it does, as last heard."""
        seen = self.progress or Progress("starting" if self.stage == "preparing" else self.stage)
        trial, candidate = (self.request.trial_id, self.request.candidate_id) if self.request else (None, None)
        return WorkerStatus(
            self.number, trial, candidate, seen.phase, seen.spent, seen.budget, self.seconds, seen.loss_nats
        )
