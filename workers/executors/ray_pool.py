"""The Ray executor runs trials on Ray actors. Actors are kept between trials, and killed and replaced when needed.

Every slot awaits one answer at a time, which depends on its stage:

    absent -> starting (Ray places the actor) -> preparing (it makes its trainer) -> idle <-> training -> absent ...

The watchdog measures and kills workers on this machine. Workers elsewhere report their memory a few times a second, and
are killed through Ray. After an exception in its trainer, a worker is replaced, as errors of accelerators can persist.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...primitives.errors import PrimerSearchError, WorkFailedError
from ...system.error_text import error_summary
from ..devices.placement import WorkerResources
from ..protocol import Evaluation, MakeTrainer, Progress, TrialRequest, WorkerStatus, fault_evaluation
from .process_reaper import ProcessReaper
from .ray_cluster import RayCluster, WorkerError
from .trial_limits import TrialLimits
from .watchdog import Watchdog
from .worker_launcher import WorkerLauncher
from .worker_slot import Slot

__all__ = ["RayExecutor"]

_log = logging.getLogger(__name__)

_START_ATTEMPTS = 3
"""Consecutive failures to start a worker, after which the search ends or continues without it for a while."""

_RESTART_SECONDS = 60.0
"""Pause of a slot whose worker did not start or died repeatedly, if other workers run."""

_DEATHS_IN_A_ROW = 3  # consecutive trials in which a slot's worker died, after which the slot pauses

_PERIOD_SECONDS = 0.1
_REPORT_SECONDS = 0.25

_REPORTS_PER_SECOND = 500.0
"""Largest rate of progress reports of all workers together, so that thousands of workers do not occupy this process."""


class RayExecutor:
    """Runs trials on Ray actors; see `Executor` for the methods.

    Args:
        make_trainer: picklable function, called once in every worker.
        wall_limit_seconds: wall clock after which a trial is killed.
        preparation_seconds: wall clock after which a trial that still compiles or probes is killed.
        slots: number of workers; 0 means as many as fit: one per core (CPU) or share of devices.
        resources: devices of each worker.
        address: address of a running Ray cluster (`host:port`, or `auto` for the one on this machine); None starts one.
        memory_limit_bytes: memory of a worker above which its trial is killed; 0 means an equal share of its machine.
        start_seconds: time limit for a worker to make its trainer, and for the first worker to appear.
        dataset: folder of the prepared text, sent to machines of a cluster that lack it; None: send nothing.
        tell: callback that receives messages about a slow start.
    """

    def __init__(
        self,
        make_trainer: MakeTrainer,
        *,
        wall_limit_seconds: float,
        preparation_seconds: float = math.inf,
        slots: int = 0,
        resources: WorkerResources | None = None,
        address: str | None = None,
        memory_limit_bytes: int = 0,
        start_seconds: float = 180.0,
        dataset: str | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ):
        self._cluster = RayCluster(address, tell)
        self._launcher = WorkerLauncher(
            self._cluster,
            make_trainer,
            resources or WorkerResources(),
            TrialLimits(wall_limit_seconds, memory_limit_bytes, preparation_seconds),
            slots=slots,
            start_seconds=start_seconds,
            dataset=dataset,
        )
        self._reaper = ProcessReaper()
        self._watchdog: Watchdog | None = None
        self._slots: list[Slot] = []
        self._finished: list[tuple[TrialRequest, Evaluation]] = []

    @property
    def slots(self) -> int:
        """Number of workers when all have started; known after `start`."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """Number of workers that are ready for a trial."""
        return sum(slot.stage == "idle" for slot in self._slots)

    def start(self) -> None:
        """Join or start a cluster, which takes seconds, and begin to start the workers. Call it on the main thread."""
        if self._watchdog is not None:
            return
        slots = self._launcher.connect()
        self._watchdog = Watchdog()
        self._slots = [Slot(number) for number in range(slots)]
        self._launch_missing()

    def submit(self, request: TrialRequest) -> None:
        """Start a trial on a free worker, or raise RuntimeError if no worker is free."""
        slot = next((slot for slot in self._slots if slot.stage == "idle"), None)
        if slot is None or slot.limits is None or self._watchdog is None:
            raise RuntimeError(f"trial {request.trial_id} was submitted while no worker is free")
        slot.request, slot.progress, slot.report = request, Progress("starting"), None
        slot.watch = self._watchdog.watch(slot.process, slot.limits)
        slot.enter("training", slot.actor.run.remote(request))

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Return finished trials as soon as one exists, or an empty list at the timeout or when a worker is free."""
        deadline, free = time.monotonic() + timeout_seconds, self.free
        while True:
            self._launch_missing()
            self._handle_answers(min(_PERIOD_SECONDS, max(0.0, deadline - time.monotonic())))
            self._enforce_limits()
            if self._finished or self.free > free or time.monotonic() >= deadline:
                self._launch_missing()
                finished, self._finished = self._finished, []
                return finished

    def status(self) -> list[WorkerStatus]:
        """Return the latest known status of each worker, and request new reports without waiting for them."""
        self._poll([slot for slot in self._slots if slot.stage == "training"])
        return [slot.status() for slot in self._slots]

    def cancel(self) -> list[TrialRequest]:
        """Kill every running trial at once, and return the requests; the next `wait` replaces the workers."""
        training = {slot.number: slot.request for slot in self._slots if slot.request is not None}
        for number in training:
            self._terminate(self._slots[number])
        return list(training.values())

    def close(self) -> None:
        """Cancel all trials, and end every process that was started here; this takes a second or two."""
        for slot in self._slots:
            self._terminate(slot)
        if self._watchdog is not None:
            self._watchdog.close()
        processes = self._reaper.pending(self._cluster.daemons)
        self._cluster.disconnect()
        self._reaper.finish(processes)
        self._watchdog, self._slots = None, []

    def __enter__(self) -> RayExecutor:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch_missing(self) -> None:
        """Launch an actor for every empty slot. Actors start in parallel, while other workers train."""
        for slot in self._slots:
            if slot.stage == "absent" and time.monotonic() >= slot.restart_after:
                self._launcher.launch(slot)

    def _start_failed(self, slot: Slot, cause: Exception, *, blame_slot: bool = True) -> None:
        """Handle a failed start: try again at once, pause the slot if other workers run, or end the search."""
        if isinstance(cause, PrimerSearchError):
            raise cause
        slot.failures += blame_slot
        self._terminate(slot)
        _log.warning("worker %d did not start: %s", slot.number, error_summary(cause))
        if slot.failures < _START_ATTEMPTS:
            return
        if self._no_worker_is_up:
            raise WorkFailedError(
                f"worker {slot.number} could not be started {slot.failures} times in a row; "
                f"the last time: {error_summary(cause)}"
            )
        slot.restart_after = time.monotonic() + _RESTART_SECONDS  # its machine may be broken: continue with the others

    @property
    def _no_worker_is_up(self) -> bool:
        return all(slot.stage in ("absent", "starting") for slot in self._slots)

    def _handle_answers(self, timeout_seconds: float) -> None:
        """Handle every answer that has arrived, after waiting at most this long for the first."""
        awaited = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not awaited:
            time.sleep(timeout_seconds)
        for answer in self._cluster.answers(list(awaited), timeout_seconds):
            slot = awaited[answer]
            try:
                self._advance(slot, self._cluster.read(answer))
            except WorkerError as error:
                self._handle_error(slot, error)

    def _advance(self, slot: Slot, value: Any) -> None:
        """Move a worker to its next stage after its answer."""
        if slot.stage == "starting":
            self._launcher.assign_resources(slot, value, self._slots)
        elif slot.stage == "preparing":
            slot.base_bytes, slot.failures = value, 0
            slot.enter("idle")
        else:
            evaluation, held_bytes = value
            self._finish_trial(slot, evaluation, reuse=not slot.leaks_memory(held_bytes))

    def _handle_error(self, slot: Slot, error: WorkerError) -> None:
        """Replace a worker that answered with an error."""
        if slot.stage == "training":
            self._finish_trial(slot, self._error_evaluation(slot, error), reuse=False)
            return
        # If others run, an actor that dies before its first answer was probably placed on a machine that shuts down.
        placed_badly = slot.stage == "starting" and error.kind == "died" and any(other.host for other in self._slots)
        self._start_failed(slot, error.cause, blame_slot=not placed_badly)

    def _finish_trial(self, slot: Slot, evaluation: Evaluation, *, reuse: bool) -> None:
        """Record a trial's evaluation, and keep its worker for the next trial or terminate it."""
        assert slot.request is not None and slot.watch is not None and self._watchdog is not None
        killed = self._watchdog.release(slot.watch) is not None
        slot.deaths = slot.deaths + 1 if evaluation.kind == "worker_lost" else 0
        self._finished.append((slot.request, evaluation))
        slot.clear_trial()
        if reuse and not killed:
            slot.enter("idle")
        else:
            self._terminate(slot)
        if slot.deaths >= _DEATHS_IN_A_ROW and any(other.deaths < _DEATHS_IN_A_ROW for other in self._slots):
            _log.warning("worker %d died in %d trials in a row and pauses", slot.number, slot.deaths)
            slot.restart_after = time.monotonic() + _RESTART_SECONDS

    def _error_evaluation(self, slot: Slot, error: WorkerError) -> Evaluation:
        """Return the evaluation of a trial whose worker answered with an error."""
        assert slot.request is not None and slot.watch is not None
        seconds = slot.watch.wall_seconds
        if slot.watch.violation is not None:
            return slot.watch.violation
        if error.kind == "out_of_memory":
            text = "its worker was killed because the machine ran out of memory"
            return Evaluation("out_of_memory", text, wall_seconds=seconds)
        if error.kind == "raised":
            _log.error("trial %d of candidate %d failed\n%s", slot.request.trial_id, slot.request.candidate_id, error)
            return fault_evaluation(error.cause, seconds)
        return Evaluation("worker_lost", f"its worker died ({error_summary(error.cause)})", wall_seconds=seconds)

    def _enforce_limits(self) -> None:
        """End trials that exceed their limits, and workers that take too long to start."""
        self._poll([slot for slot in self._slots if slot.watch and (slot.process is None or not slot.watch.trains)])
        for slot in self._slots:
            if slot.watch is not None:
                violation = slot.watch.check() if slot.process is None else slot.watch.violation
                if violation := violation or slot.watch.check_preparation():
                    self._finish_trial(slot, violation, reuse=False)
        no_worker_is_up = self._no_worker_is_up
        for slot in self._slots:
            # On a busy cluster, an actor may wait for free resources, unless no worker is up.
            limited = slot.stage == "preparing" or (no_worker_is_up and slot.stage == "starting")
            if limited and slot.seconds > self._launcher.start_seconds:
                self._start_failed(slot, TimeoutError(f"not ready after {self._launcher.start_seconds:g} s"))
        self._reaper.check()
        self._cluster.raise_if_dead()

    def _poll(self, slots: list[Slot]) -> None:
        """Read the progress reports that have arrived, and request new ones, without waiting."""
        pending = {slot.report: slot for slot in slots if slot.report is not None}
        for answer in self._cluster.answers(list(pending)):
            slot = pending[answer]
            slot.report = None
            with suppress(WorkerError):  # the answer of the trial will report it
                progress, held_bytes = self._cluster.read(answer)
                slot.progress = progress
                if slot.watch is not None:
                    slot.watch.report(progress.phase)
                    if slot.process is None:
                        slot.watch.check(held_bytes)
        now, period = time.monotonic(), max(_REPORT_SECONDS, len(self._slots) / _REPORTS_PER_SECOND)
        for slot in slots:
            if slot.report is None and now - slot.reported > period:
                slot.report = slot.actor.report.options(concurrency_group="report").remote()
                slot.reported = now

    def _terminate(self, slot: Slot) -> None:
        """Kill a worker's process; the slot is empty afterwards."""
        if slot.watch is not None and self._watchdog is not None:
            self._watchdog.release(slot.watch)
        if slot.process is not None:
            self._reaper.kill(slot.process)
        if slot.actor is not None:
            self._cluster.kill(slot.actor)
        slot.clear_actor()
