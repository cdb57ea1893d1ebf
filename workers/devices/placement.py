"""Placement of workers on devices: how many fit, what Ray reserves for each, and their environment variables.

The functions are pure; their input is a list of devices. One worker takes `trial.devices` devices of one host. Several
workers may share one GPU. TPUs are assigned by chip, the smallest part that a process can own. A chip of TPU v2, v3, v7
or v8i is two JAX devices; any other chip is one. A worker can have 1, 2, 4 or 8 chips of a host. Ray tells each worker
its chips (`TPU_VISIBLE_CHIPS`, ray/_private/accelerators/tpu.py). The bounds set here tell libtpu that no other chips
exist, as in JAX's own multi-process tests (jax/_src/test_multiprocess.py). Without the bounds, libtpu would wait for
the other hosts of a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...primitives.errors import UsageError
from ...system.plurals import pluralize
from ..protocol import Platform
from .discovery import VisibleDevices, devices_per_chip

__all__ = [
    "CHIP_BOUNDS",
    "JAX_MEMORY_FRACTION",
    "Placement",
    "WorkerResources",
    "gpu_memory_fraction",
    "place_workers",
]

CHIP_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
"""Topology of the chips of one process, by the number of chips."""

_GENERAL_RESERVE, _PROCESS_RESERVE = 0.05, 0.05
"""Shares of a device's memory that are kept free: once, and for each process."""


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """Devices of one worker.

    Attributes:
        platform: platform that the worker trains on.
        devices: number of devices, all on one host (`trial.devices`).
        per_device: number of workers that share one device (`workers.per_device`).
    """

    platform: Platform = "cpu"
    devices: int = 1
    per_device: int = 1

    def units(self, kind: str = "") -> int:
        """Return the number of units that the worker occupies on a host: cores, GPUs, or TPU chips of this kind."""
        if self.platform == "cpu":
            return 1  # its virtual devices share its cores
        return -(-self.devices // devices_per_chip(kind)) if self.platform == "tpu" else self.devices

    def workers_on(self, units: int, kind: str = "") -> int:
        """Return the number of workers that fit on a host with this number of units."""
        return units // self.units(kind) * self.per_device

    def ray_options(self, kind: str = "", alone: bool = True) -> dict[str, Any]:
        """Return Ray's options for a worker. A worker on an accelerator also takes a core, unless Ray runs `alone`.

        Args:
            kind: kind of the devices.
            alone: whether Ray was started for this search only.
        """
        if self.platform == "gpu":
            # Round down here: Ray rounds to ten-thousandths, and six times 0.1667 would be more than one GPU.
            part = int(10_000 / self.per_device) / 10_000
            device = {"num_gpus": part if self.per_device > 1 else self.devices}
        else:
            device = {"resources": {"TPU": self.units(kind)}} if self.platform == "tpu" else {}
        return {"num_cpus": int(self.platform == "cpu" or not alone), **device}

    def environment(self, kind: str = "") -> dict[str, str]:
        """Return the environment variables to set before a worker imports JAX."""
        if self.platform == "gpu":
            # JAX refuses to have both the new and the old variable set, and the user may have set the old one.
            fraction = f"{gpu_memory_fraction(self.per_device):.4f}"
            return {"XLA_CLIENT_MEM_FRACTION": fraction, "XLA_PYTHON_CLIENT_MEM_FRACTION": ""}
        if self.platform == "tpu":
            return {
                "TPU_CHIPS_PER_PROCESS_BOUNDS": CHIP_BOUNDS[self.units(kind)],
                "TPU_PROCESS_BOUNDS": "1,1,1",
                "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes on a host, each with its own chips
            }
        return {}

    def memory_bytes(self, device_bytes: int) -> int:
        """Return the bytes of a device's memory that the worker may use. The runtime of a TPU reserves a small part."""
        fraction = gpu_memory_fraction(self.per_device) if self.platform == "gpu" else 1 - _GENERAL_RESERVE
        return int(fraction * device_bytes)

    @property
    def xla_flags(self) -> str:
        """XLA flags of a CPU worker whose trial uses several devices; otherwise empty."""
        several = self.platform == "cpu" and self.devices > 1
        return f"--xla_force_host_platform_device_count={self.devices}" if several else ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Workers on devices.

    Attributes:
        resources: devices of each worker.
        workers: number of workers.
        workers_per_host: largest number of workers on one host.
    """

    resources: WorkerResources
    workers: int
    workers_per_host: int = 1


JAX_MEMORY_FRACTION = 0.75
"""Share of a GPU's memory that JAX allocates by default; the process of an `inline` search keeps this default."""


def gpu_memory_fraction(per_device: int) -> float:
    """Return the share of a GPU's memory that JAX allocates in each of `per_device` processes that share the GPU.

    By default JAX allocates `JAX_MEMORY_FRACTION` in the first process, and the second process fails. Each process also
    needs 0.5-1 GiB outside JAX's pool, for the CUDA context, kernels, cuBLAS and autotuning. For this, 5% of the memory
    are reserved for each process, and another 5% for all; each 5% of 16 GiB are 0.8 GiB. So 1 worker gets 90%, 2 get
    42.5% each, 4 get 18.75% each, 8 get 6.9% each. JAX allocates its whole pool at the start. So a candidate that needs
    more than its share runs out of memory itself, and does not take memory from the other workers.

    >>> [round(gpu_memory_fraction(n), 4) for n in (1, 2, 4)]
    [0.9, 0.425, 0.1875]
    """
    return (1 - _GENERAL_RESERVE - _PROCESS_RESERVE * per_device) / per_device


def place_workers(seen: VisibleDevices, *, devices: int = 1, per_device: int = 1, count: int = 0) -> Placement:
    """Place workers on devices: as many as fit, or `count`.

    Args:
        seen: devices of all hosts. On the CPUs of a cluster, a device is a core.
        devices: `trial.devices`.
        per_device: `workers.per_device`.
        count: `workers.count`; 0: as many as fit.

    Raises:
        UsageError: no host can hold a worker, a worker cannot have the requested number of chips, or `count` workers do
            not fit.
    """
    resources = WorkerResources(seen.platform, devices, per_device)
    per_unit = devices_per_chip(seen.kind) if seen.platform == "tpu" else 1
    hosts = [host // per_unit for host in seen.per_host]
    units, largest, total = resources.units(seen.kind), max(hosts, default=0), sum(hosts)
    name = {"cpu": "core", "gpu": "GPU", "tpu": "TPU chip"}[seen.platform]
    if seen.platform == "tpu" and units not in CHIP_BOUNDS:
        raise UsageError(
            f"trial.devices is {devices}, which takes {units} TPU chips of a host, but a worker can have only"
            f" {', '.join(map(str, CHIP_BOUNDS))}: choose trial.devices accordingly"
        )
    if largest < units:
        raise UsageError(
            f"trial.devices is {devices}, all on one host, but the largest host has {pluralize(largest, name)}"
            f"{' of two devices' * (per_unit > 1)} ({seen.kind}): lower trial.devices"
        )
    places = sum(resources.workers_on(host, seen.kind) for host in hosts)
    # A cluster may add CPU nodes for waiting workers, but not accelerators.
    if count > places and seen.platform != "cpu":
        raise UsageError(
            f"workers.count is {count}, but {pluralize(total, name)} hold only {places}: "
            f"lower workers.count{', or share a device with workers.per_device' * (seen.platform == 'gpu')}"
        )
    workers = count or places
    workers_per_host = resources.workers_on(largest, seen.kind)
    if seen.platform != "cpu":
        workers_per_host = min(workers, workers_per_host)
    return Placement(resources, workers, workers_per_host)
