"""Trials on Ray actors, warm from trial to trial, killed and replaced when it must be; `placement` says how many.

The only module that imports Ray; `make_executor` imports it when Ray is asked for. Every slot awaits one answer at
a time, and its stage says which:

    absent -> starting (Ray finds it a place) -> preparing (it makes its trainer) -> idle <-> training -> absent ...

Workers on this machine are guarded by the watchdog, which needs no answer from them; workers elsewhere report
their memory a few times a second and are killed through Ray. A worker whose trainer raised is replaced too: an
accelerator's error can outlive the call that met it. On a cluster, workers bring the driver's package along as a wheel
(`landing`), and the dataset where a machine does not have it (`parcel`).
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, cast

import psutil

from ...primitives.errors import PrimerSearchError, UsageError, WorkFailedError
from ...system.host import CAN_PIN, machine_identity, pick_cores, usable_core_count
from ..data.dataset_transfer import dataset_files
from ..devices.discovery import devices_in_nodes, resolve_platform, use_cpu_only
from ..devices.placement import WorkerResources, place_workers
from ..devices.ray_environment import check_address, keep_sigterm_handler, silence_ray, worker_environment
from ..protocol import Evaluation, MakeTrainer, Progress, TrialRequest, WorkerStatus, error_summary, fault_evaluation
from . import ray_actor
from .package_wheel import build_wheel
from .process_reaper import ProcessReaper
from .watchdog import Limits, Watchdog
from .worker_process import HostInfo
from .worker_slot import Slot

silence_ray()

import ray  # noqa: E402
from ray import cloudpickle  # noqa: E402
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError  # noqa: E402

__all__ = ["RayExecutor"]

_log = logging.getLogger(__name__)

# Where a worker lands, the package may not be installed.
cloudpickle.register_pickle_by_value(ray_actor)  # pyright: ignore[reportPrivateImportUsage]

_STARTS = 3
"""How often in a row a worker may fail to start before the search gives up, or goes on with others for a while."""

_REST_SECONDS = 60.0
"""How long a worker that does not start is left alone where others do."""

_PERIOD_SECONDS = 0.1
_REPORT_SECONDS = 0.25
_SLOWEST_BYTES_A_SECOND = 10e6
"""Of a network that a dataset travels; a worker's start may take so much longer."""

_MEMORY_SHARE = 0.8
"""Of the machine's memory, what its workers may fill together by default; the rest is the controller's and Ray's."""

_OBJECT_STORE_BYTES = 200 * 2**20
"""Only requests and evaluations travel; Ray's own default takes 30% of the machine."""


class RayExecutor:
    """Runs trials on Ray actors; see `Executor` for the methods.

    Args:
        make_trainer: picklable; called once in every worker.
        wall_limit_seconds: wall clock after which a trial is killed.
        slots: number of workers; 0 means all that find place: one for each core (CPU) or share of devices.
        share: where workers train, and what each takes.
        address: of a running Ray cluster (`host:port`, or `auto` for the one on this machine); None starts one.
        memory_limit_bytes: memory a worker may hold before its trial is killed; 0 means an equal share of its machine.
        start_seconds: how long a worker may take to make its trainer, or the first one to appear.
        dataset: folder of the prepared text, for machines of a cluster that lack it; None ships nothing.
    """

    def __init__(
        self,
        make_trainer: MakeTrainer,
        *,
        wall_limit_seconds: float,
        slots: int = 0,
        share: WorkerResources | None = None,
        address: str | None = None,
        memory_limit_bytes: int = 0,
        start_seconds: float = 180.0,
        dataset: str | None = None,
    ):
        self._make_trainer = make_trainer
        self._wall_seconds = wall_limit_seconds
        self._wanted = slots
        self._share = share or WorkerResources()
        self._address = address
        self._memory_bytes = memory_limit_bytes
        self._start_seconds = start_seconds
        self._dataset = dataset if address is not None else None
        self._machine = machine_identity()
        self._slots: list[Slot] = []
        self._ended: list[tuple[TrialRequest, Evaluation]] = []
        self._burials = ProcessReaper()
        self._watchdog: Watchdog | None = None
        self._actors: Any = None
        self._landing: tuple[Any, ...] = ()
        self._payload = b""
        self._parcel: tuple[Any, ...] | None = None
        self._neighbours = 1
        self._connected = False
        self._daemons: list[psutil.Process] = []

    @property
    def slots(self) -> int:
        """How many workers there are when every one is up; known once started."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """How many workers are ready for a trial."""
        return sum(slot.stage == "idle" for slot in self._slots)

    def start(self) -> None:
        """Join or start a cluster (some seconds), and begin to start the workers; call it on the main thread."""
        if self._watchdog is not None:
            return
        use_cpu_only()
        self._payload = cloudpickle.dumps(self._make_trainer)  # pyright: ignore[reportPrivateImportUsage]
        self._connect()
        slots = self._place()
        self._watchdog = Watchdog()
        self._slots = [Slot(number) for number in range(slots)]
        if not CAN_PIN and self._share.platform == "cpu":
            _log.warning("this system cannot tie workers to cores, so step times vary more than they need to")
        self._launch_missing()

    def submit(self, request: TrialRequest) -> None:
        """Start a trial on a free worker; a RuntimeError if none is free."""
        slot = next((slot for slot in self._slots if slot.stage == "idle"), None)
        if slot is None or slot.limits is None or self._watchdog is None:
            raise RuntimeError(f"trial {request.trial_id} was submitted while no worker is free")
        slot.request, slot.progress, slot.report = request, Progress("starting"), None
        slot.watch = self._watchdog.watch(slot.process, slot.limits)
        slot.enter("training", slot.actor.run.remote(request))

    def wait(self, timeout_seconds: float) -> list[tuple[TrialRequest, Evaluation]]:
        """Trials that ended, as soon as there is one; nothing after the timeout, or once a worker became free."""
        deadline, free = time.monotonic() + timeout_seconds, self.free
        while True:
            self._launch_missing()
            self._advance(min(_PERIOD_SECONDS, max(0.0, deadline - time.monotonic())))
            self._enforce()
            if self._ended or self.free > free or time.monotonic() >= deadline:
                self._launch_missing()
                ended, self._ended = self._ended, []
                return ended

    def status(self) -> list[WorkerStatus]:
        """What each worker does, as last heard; asks for news and waits for none."""
        self._poll([slot for slot in self._slots if slot.stage == "training"])
        return [slot.status() for slot in self._slots]

    def cancel(self) -> list[TrialRequest]:
        """Kill every trial in flight at once, and return their requests; the next `wait` replaces the workers."""
        training = {slot.number: slot.request for slot in self._slots if slot.request is not None}
        for number in training:
            self._terminate(self._slots[number])
        return list(training.values())

    def close(self) -> None:
        """Cancel, and end every process that was started here; takes a second or two."""
        for slot in self._slots:
            self._terminate(slot)
        if self._watchdog is not None:
            self._watchdog.close()
        family = self._burials.family(self._daemons)
        if self._connected:
            ray.shutdown()
        self._burials.finish(family)
        self._watchdog, self._connected, self._parcel = None, False, None
        self._slots, self._daemons = [], []

    def __enter__(self) -> RayExecutor:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Starting

    def _connect(self) -> None:
        """Join the cluster at the address, or start one here that dies with this process."""
        if ray.is_initialized():
            return
        check_address(self._address)
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        own = {} if self._address else own | {"num_cpus": max(self._wanted, usable_core_count())}
        before = set(psutil.Process().children())
        self._connected = True
        try:
            with keep_sigterm_handler():
                ray.init(self._address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, RuntimeError) as error:
            if self._address is None:
                raise WorkFailedError(f"Ray could not be started on this machine: {error_summary(error)}") from error
            said = " ".join(str(error).split())  # other versions stand in lines of their own
            raise UsageError(f"cannot join the Ray cluster at --address {self._address}: {said}") from error
        finally:
            self._daemons = [child for child in psutil.Process().children() if child not in before]

    def _place(self) -> int:
        """Make the class of actors as the cluster's devices ask for it; the number of workers."""
        share, cores = self._share, usable_core_count()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        seen = devices_in_nodes(nodes, share.platform)
        resolve_platform(share.platform, seen, self._address)
        if share.platform == "cpu" and self._address is None:
            slots = self._neighbours = self._wanted or cores
        else:
            placement = place_workers(seen, devices=share.devices, per_device=share.per_device, count=self._wanted)
            slots, self._neighbours = placement.workers, placement.neighbours
        threads = max(1, cores // self._neighbours)
        variables = worker_environment(share.platform, threads, share.xla_flags) | share.environment(seen.kind)
        self._actors = cast(Any, ray).remote(
            concurrency_groups={"report": 1},
            runtime_env={"env_vars": variables},
            max_restarts=0,  # Ray would repeat a trial without its limits
            max_task_retries=0,
            **share.ray_options(seen.kind, alone=self._address is None),
        )(ray_actor.Worker)
        if self._address is not None:
            wheel = build_wheel()
            self._landing = wheel.digest, ray.put(wheel.content)
        return slots

    def _launch_missing(self) -> None:
        """Give every empty slot a new actor; they start side by side, while others train."""
        for slot in self._slots:
            if slot.stage == "absent" and time.monotonic() >= slot.restart_after:
                slot.actor = self._actors.remote(*self._landing)
                slot.enter("starting", slot.actor.home.remote(self._dataset))

    def _assign_resources(self, slot: Slot, home: HostInfo) -> None:
        """Give a worker that has come up its share of the machine it landed on, and let it make its trainer."""
        on_cluster = self._share.platform == "cpu" and self._address is not None
        parts = len(home.cores) if on_cluster else self._neighbours  # there one core is one worker
        neighbours = [other for other in self._slots if other.home and other.home.machine == home.machine]
        taken = [core for other in neighbours for core in other.cores]
        slot.home = home
        slot.cores = pick_cores(home.cores, taken, max(1, len(home.cores) // parts)) if CAN_PIN else ()
        slot.limits = Limits(self._wall_seconds, self._memory_bytes or int(_MEMORY_SHARE * home.memory_bytes / parts))
        if home.machine == self._machine:
            with suppress(psutil.NoSuchProcess):  # it died since: its next answer says so
                slot.process = psutil.Process(home.pid)
        parcel = () if home.has_data else self._packed()
        slot.enter("preparing", slot.actor.prepare.remote(self._payload, slot.cores, *parcel))

    def _packed(self) -> tuple[Any, ...]:
        """The dataset in Ray's object store, which brings it once to every machine that asks."""
        if self._parcel is None:
            assert self._dataset is not None
            files = dataset_files(self._dataset)
            self._start_seconds += sum(content.size for content in files.values()) / _SLOWEST_BYTES_A_SECOND
            name = os.path.basename(self._dataset)
            self._parcel = name, tuple(files), *(ray.put(content) for content in files.values())
        return self._parcel

    def _start_failed(self, slot: Slot, error: Exception) -> None:
        cause = _cause(error)
        if isinstance(cause, PrimerSearchError):
            raise cause
        # Where others are up, an actor that dies before its first word was put on a machine that is dying itself.
        placed_badly = slot.stage == "starting" and isinstance(error, RayActorError) and not error.actor_init_failed
        slot.failures += not (placed_badly and any(other.home for other in self._slots))
        self._terminate(slot)
        _log.warning("worker %d did not start: %s", slot.number, error_summary(cause))
        if slot.failures < _STARTS:
            return
        if all(other.stage in ("absent", "starting") for other in self._slots):
            often = f"could not be started {slot.failures} times in a row"
            raise WorkFailedError(f"worker {slot.number} {often}; the last time: {error_summary(cause)}")
        slot.restart_after = time.monotonic() + _REST_SECONDS  # its machine may be broken: the others go on

    # Running

    def _advance(self, timeout_seconds: float) -> None:
        """Take the answer of every worker that has one, waiting at most so long for the first."""
        awaited = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not awaited:
            time.sleep(timeout_seconds)
            return
        if ray.wait(list(awaited), num_returns=1, timeout=timeout_seconds)[0]:
            for answer in ray.wait(list(awaited), num_returns=len(awaited), timeout=0)[0]:
                self._take(awaited[answer], answer)

    def _take(self, slot: Slot, answer: Any) -> None:
        """Move a worker to its next stage by what it answered."""
        try:
            value: Any = ray.get(answer)
        except RayError as error:
            if slot.stage == "training":
                self._end(slot, self._explain(slot, error), keep=False)
            else:
                self._start_failed(slot, error)
            return
        if slot.stage == "starting":
            self._assign_resources(slot, value)
        elif slot.stage == "preparing":
            slot.base_bytes, slot.failures = value, 0
            slot.enter("idle")
        else:
            evaluation, held_bytes = value
            self._end(slot, evaluation, keep=not slot.leaks_memory(held_bytes))

    def _end(self, slot: Slot, evaluation: Evaluation, *, keep: bool) -> None:
        """Hand in a trial's evaluation, and keep the worker for the next one or let it go."""
        assert slot.request is not None and slot.watch is not None and self._watchdog is not None
        killed = self._watchdog.release(slot.watch) is not None
        self._ended.append((slot.request, evaluation))
        slot.clear_trial()
        if keep and not killed:
            slot.enter("idle")
        else:
            self._terminate(slot)

    def _explain(self, slot: Slot, error: RayError) -> Evaluation:
        """What became of a trial whose worker answered with an error."""
        assert slot.request is not None and slot.watch is not None
        seconds = slot.watch.wall_seconds
        if slot.watch.verdict is not None:
            return slot.watch.verdict
        if isinstance(error, OutOfMemoryError):
            text = "its worker was killed because the machine ran out of memory"
            return Evaluation("out_of_memory", text, wall_seconds=seconds)
        if isinstance(error, RayTaskError):
            _log.error("trial %d of candidate %d failed\n%s", slot.request.trial_id, slot.request.candidate_id, error)
            return fault_evaluation(_cause(error), seconds)
        return Evaluation("worker_lost", f"its worker died ({error_summary(error)})", wall_seconds=seconds)

    def _enforce(self) -> None:
        """Judge what the watchdog cannot reach, end what was condemned, and give up on workers that never come up."""
        self._poll([slot for slot in self._slots if slot.watch and slot.process is None])
        for slot in self._slots:
            watch = slot.watch
            if watch is not None and (watch.verdict or (watch.process is None and watch.judge(0))) and watch.verdict:
                self._end(slot, watch.verdict, keep=False)
        alone = all(slot.stage in ("absent", "starting") for slot in self._slots)
        for slot in self._slots:
            # A worker for which a busy cluster has no place yet just waits, unless there is no other.
            late = slot.stage == "preparing" or (alone and slot.stage == "starting")
            if late and slot.seconds > self._start_seconds:
                self._start_failed(slot, TimeoutError(f"not ready after {self._start_seconds:g} s"))
        self._burials.check()

    def _poll(self, slots: list[Slot]) -> None:
        """Take the reports that have come in, and ask for new ones; waits for nothing."""
        asked = {slot.report: slot for slot in slots if slot.report is not None}
        for answer in ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else []:
            slot = asked[answer]
            slot.report = None
            with suppress(RayError):  # a worker that fell says so through its trial
                slot.progress, held_bytes = cast(Any, ray.get(answer))
                if slot.process is None and slot.watch is not None:
                    slot.watch.judge(held_bytes)
        now = time.monotonic()
        for slot in slots:
            if slot.report is None and now - slot.reported > _REPORT_SECONDS:
                slot.report = slot.actor.report.options(concurrency_group="report").remote()
                slot.reported = now

    # Ending

    def _terminate(self, slot: Slot) -> None:
        """Kill a worker's process for good; the slot is empty afterwards."""
        if slot.watch is not None and self._watchdog is not None:
            self._watchdog.release(slot.watch)
        if slot.process is not None:
            self._burials.kill(slot.process)
        if slot.actor is not None:
            with suppress(RayError, ValueError):  # Ray has seen it die already
                ray.kill(slot.actor, no_restart=True)
        slot.clear_actor()


def _cause(error: Exception) -> Exception:
    """What a worker raised, out of Ray's wrapping."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, Exception) else error
