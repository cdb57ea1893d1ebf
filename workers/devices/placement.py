"""Where workers go: how many a set of devices holds, what Ray reserves for one, and what its environment says.

Pure: it decides from a list of devices, which tests make up. One worker takes `trial.devices` devices of one host; on
GPUs several may share one device. A TPU is handed out by the chip, the least that a process can own: TPU v2, v3 and v7
show JAX two devices a chip, the others one. A host's chips can be split into parts of 1, 2, 4 or 8. Ray tells each
worker its chips (`TPU_VISIBLE_CHIPS`, ray/_private/accelerators/tpu.py), and the bounds here tell libtpu that these
are all there are, as JAX's own multi-process tests do (jax/_src/test_multiprocess.py): on a slice of several hosts it
would otherwise wait for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...primitives.errors import UsageError
from ..protocol import Platform
from .discovery import VisibleDevices, devices_per_chip

__all__ = [
    "CHIP_BOUNDS",
    "JAX_MEMORY_FRACTION",
    "Placement",
    "WorkerResources",
    "gpu_memory_fraction",
    "place_workers",
    "place_workers_by_units",
]

CHIP_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
"""How the chips of one process lie, by their number."""

_GENERAL_RESERVE, _PROCESS_RESERVE = 0.05, 0.05
_RESOURCES: dict[Platform, str] = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What one worker takes.

    Attributes:
        platform: where it trains.
        devices: of a host, `trial.devices`.
        per_device: workers that share one device, `workers.per_device`.
    """

    platform: Platform = "cpu"
    devices: int = 1
    per_device: int = 1

    @property
    def resource(self) -> str:
        """Ray's name for what the worker takes: `CPU`, `GPU`, or `TPU`, of which Ray counts the chips."""
        return _RESOURCES[self.platform]

    def units(self, kind: str = "") -> int:
        """Of that resource, how many the worker takes whole: devices, or the chips of a TPU of this kind."""
        if self.platform == "cpu":
            return 1  # its virtual devices share its cores
        return -(-self.devices // devices_per_chip(kind)) if self.platform == "tpu" else self.devices

    def workers_on(self, units: int, kind: str = "") -> int:
        """How many workers a host with so many of the resource holds."""
        return units // self.units(kind) * self.per_device

    def ray_options(self, kind: str = "", alone: bool = True) -> dict[str, Any]:
        """What Ray reserves for a worker; on a cluster that is not its `alone`, also a core beside its device."""
        if self.platform == "gpu":
            # Ray counts in ten-thousandths, and rounds: six times 0.1667 would be more than one.
            part = int(10_000 / self.per_device) / 10_000
            device = {"num_gpus": part if self.per_device > 1 else self.devices}
        else:
            device = {"resources": {"TPU": self.units(kind)}} if self.platform == "tpu" else {}
        return {"num_cpus": int(self.platform == "cpu" or not alone), **device}

    def environment(self, kind: str = "") -> dict[str, str]:
        """Environment variables of a worker, before it loads JAX."""
        if self.platform == "gpu":
            # The second name is the older one; JAX refuses both together, and the user's own may be set.
            fraction = f"{gpu_memory_fraction(self.per_device):.4f}"
            return {"XLA_CLIENT_MEM_FRACTION": fraction, "XLA_PYTHON_CLIENT_MEM_FRACTION": ""}
        if self.platform == "tpu":
            return {
                "TPU_CHIPS_PER_PROCESS_BOUNDS": CHIP_BOUNDS[self.units(kind)],
                "TPU_PROCESS_BOUNDS": "1,1,1",
                "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes on a host, each with chips of its own
            }
        return {}

    def memory_bytes(self, device_bytes: int) -> int:
        """Of a device's memory, what the worker may fill; a TPU's runtime keeps a little for itself."""
        fraction = gpu_memory_fraction(self.per_device) if self.platform == "gpu" else 1 - _GENERAL_RESERVE
        return int(fraction * device_bytes)

    @property
    def xla_flags(self) -> str:
        """What a CPU worker that spreads a trial tells XLA: its cores are so many devices."""
        several = self.platform == "cpu" and self.devices > 1
        return f"--xla_force_host_platform_device_count={self.devices}" if several else ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Workers on devices.

    Attributes:
        share: what each worker takes.
        workers: how many train at once.
        neighbours: the most that find place on one host.
        idle: devices that no worker uses.
    """

    resources: WorkerResources
    workers: int
    workers_per_host: int = 1
    idle: int = 0


JAX_MEMORY_FRACTION = 0.75
"""The part of a GPU's memory that JAX takes unasked, as it does in the process of an `inline` search."""


def gpu_memory_fraction(per_device: int) -> float:
    """The part of a GPU's memory that JAX takes, at once, in each of `per_device` processes that share it.

    By default JAX takes `JAX_MEMORY_FRACTION` in the first process, and the second fails. What is outside JAX's pool
    must fit beside it, 0.5-1 GiB a process: the CUDA context, loaded kernels, what cuBLAS and autotuning take. Left for
    it are 5% of the device for each process and 5% for all, on 16 GiB 0.8 GiB each. So 1 worker takes 90%, 2 take 42.5%
    each, 4 take 18.75%, 8 take 6.9%. The pool is still taken at once: a candidate that needs more than its share runs
    out of memory itself, not its neighbour.

    >>> [round(gpu_memory_fraction(n), 4) for n in (1, 2, 4)]
    [0.9, 0.425, 0.1875]
    """
    return (1 - _GENERAL_RESERVE - _PROCESS_RESERVE * per_device) / per_device


def place_workers(seen: VisibleDevices, *, devices: int = 1, per_device: int = 1, count: int = 0) -> Placement:
    """Workers for devices: as many as there is place for, or `count`.

    Args:
        seen: the devices, host by host. On CPUs, a device is a core where they are a cluster's.
        devices: `trial.devices`.
        per_device: `workers.per_device`.
        count: `workers.count`; 0 means all that find place.

    Raises:
        UsageError: no host has the devices of one worker, they cannot be shared or divided so, or there are more
            workers than places.
    """
    chip = devices_per_chip(seen.kind) if seen.platform == "tpu" else 1
    resources = WorkerResources(seen.platform, devices, per_device)
    return place_workers_by_units(resources, [host // chip for host in seen.per_host], seen.kind, count)


def place_workers_by_units(
    resources: WorkerResources, hosts: Sequence[int], kind: str = "", count: int = 0
) -> Placement:
    """`place_workers` for hosts whose devices are counted as Ray does, a TPU's by the chip.

    Raises:
        UsageError: see `place_workers`.
    """
    if resources.platform == "tpu" and (chips := resources.units(kind)) not in CHIP_BOUNDS:
        raise UsageError(
            f"trial.devices = {resources.devices} takes {chips} TPU chips of a host, which can be split into parts of "
            f"{', '.join(map(str, CHIP_BOUNDS))}: choose trial.devices so."
        )
    what = {"cpu": "core", "gpu": "GPU", "tpu": "TPU chip"}[resources.platform]
    most, chip = max(hosts, default=0), devices_per_chip(kind) if resources.platform == "tpu" else 1
    if most < resources.units(kind):
        raise UsageError(
            f"trial.devices = {resources.devices} of kind {kind or resources.resource} must be on one host, "
            f"but the largest here has {_plural(most, what)}{' of two devices' * (chip > 1)}: lower trial.devices."
        )
    places = sum(resources.workers_on(units, kind) for units in hosts)
    # A cluster may grow cores for workers that wait; devices that are not there will not appear.
    if count > places and resources.platform != "cpu":
        raise UsageError(
            f"workers.count asks for {count} workers, but {_plural(sum(hosts), what)} hold {places}: "
            f"lower workers.count{', or share a device with workers.per_device' * (resources.platform == 'gpu')}."
        )
    workers = count or places
    used = -(-workers // resources.per_device) * resources.units(kind)
    workers_per_host = resources.workers_on(most, kind)
    if resources.platform != "cpu":  # one core is one worker, however few there are
        workers_per_host = min(workers, workers_per_host)
    return Placement(resources, workers, workers_per_host, max(0, sum(hosts) - used))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
