"""The launch of Ray workers: their number, their share of a machine, and the files that they need.

On a joined cluster, workers receive the driver's package as a wheel (`package_wheel`), and the dataset if their machine
lacks it (`dataset_transfer`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psutil

from ...system.host import CAN_PIN, machine_identity, pick_cores, usable_core_count
from ..data.dataset_transfer import dataset_files
from ..devices.discovery import devices_in_nodes, resolve_platform, use_cpu_only
from ..devices.placement import WorkerResources, place_workers
from ..devices.worker_environment import worker_environment
from ..protocol import MakeTrainer
from .ray_cluster import RayCluster, serialize
from .trial_limits import TrialLimits
from .worker_process import HostInfo
from .worker_slot import Slot

__all__ = ["WorkerLauncher"]

_log = logging.getLogger(__name__)

_SLOWEST_BYTES_PER_SECOND = 10e6
"""Assumed speed of the slowest network. The time to send the dataset at this speed is added to `start_seconds`."""

_MEMORY_SHARE = 0.8
"""Default share of a machine's memory for all its workers; the rest is for the controller and Ray."""


class WorkerLauncher:
    """Starts the actors of a Ray executor in its slots; see `RayExecutor` for the arguments.

    Attributes:
        start_seconds: time limit for a worker to make its trainer.
    """

    def __init__(
        self,
        cluster: RayCluster,
        make_trainer: MakeTrainer,
        resources: WorkerResources,
        limits: TrialLimits,
        *,
        slots: int,
        start_seconds: float,
        dataset: str | None,
    ):
        self.start_seconds = start_seconds
        self._cluster = cluster
        self._make_trainer = make_trainer
        self._resources = resources
        self._limits = limits
        self._slots = slots
        self._joins_cluster = cluster.address is not None
        self._dataset = dataset if self._joins_cluster else None
        self._machine = machine_identity()
        self._trainer_bytes = b""
        self._sent_dataset: tuple[Any, ...] | None = None
        self._workers_per_host = 1

    def connect(self) -> int:
        """Join or start the cluster, and return the number of workers."""
        use_cpu_only()
        self._sent_dataset = None
        self._trainer_bytes = serialize(self._make_trainer)
        self._cluster.connect(cores=max(self._slots, usable_core_count()))
        if not CAN_PIN and self._resources.platform == "cpu":
            _log.warning("this system cannot pin workers to cores, so step times vary more")
        return self._place_workers()

    def launch(self, slot: Slot) -> None:
        """Launch an actor in a slot, without waiting for it."""
        slot.actor = self._cluster.launch()
        slot.enter("starting", slot.actor.host_info.remote(self._dataset))

    def assign_resources(self, slot: Slot, host: HostInfo, slots: Sequence[Slot]) -> None:
        """Give a new worker its share of its machine, and let it make its trainer."""
        one_core_each = self._resources.platform == "cpu" and self._joins_cluster
        parts = len(host.cores) if one_core_each else self._workers_per_host
        others = [other for other in slots if other.host and other.host.machine == host.machine]
        taken = [core for other in others for core in other.cores]
        slot.host = host
        slot.cores = pick_cores(host.cores, taken, max(1, len(host.cores) // parts)) if CAN_PIN else ()
        memory = self._limits.memory_bytes or int(_MEMORY_SHARE * host.memory_bytes / parts)
        slot.limits = replace(self._limits, memory_bytes=memory)
        if host.machine == self._machine:
            with suppress(psutil.NoSuchProcess):  # the worker has died, which its next answer will report
                slot.process = psutil.Process(host.pid)
        dataset = () if host.has_data else self._dataset_arguments()
        slot.enter("preparing", slot.actor.prepare.remote(self._trainer_bytes, slot.cores, *dataset))

    def _dataset_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of `prepare` that describe the dataset. Its files are in Ray's object store."""
        if self._sent_dataset is None:
            assert self._dataset is not None
            files = dataset_files(self._dataset)
            self.start_seconds += sum(content.size for content in files.values()) / _SLOWEST_BYTES_PER_SECOND
            contents = [self._cluster.put(content) for content in files.values()]
            self._sent_dataset = os.path.basename(self._dataset), tuple(files), *contents
        return self._sent_dataset

    def _place_workers(self) -> int:
        """Define the actors for the devices of the cluster, and return the number of workers."""
        resources, cores = self._resources, usable_core_count()
        seen = devices_in_nodes(self._cluster.nodes(), resources.platform)
        resolve_platform(resources.platform, seen, self._cluster.address)
        if resources.platform == "cpu" and not self._joins_cluster:
            slots = self._workers_per_host = self._slots or cores
        else:
            placement = place_workers(
                seen, devices=resources.devices, per_device=resources.per_device, count=self._slots
            )
            slots, self._workers_per_host = placement.workers, placement.workers_per_host
        threads = max(1, cores // self._workers_per_host)
        variables = worker_environment(resources.platform, threads, resources.xla_flags, seen.kind)
        self._cluster.define_actors(
            variables | resources.environment(seen.kind),
            resources.ray_options(seen.kind, alone=not self._joins_cluster),
        )
        return slots
