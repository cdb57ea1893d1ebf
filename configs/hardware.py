"""Hardware of a search: devices, workers on them, and whether a candidate fits into a device's memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..primitives.errors import UsageError
from ..primitives.graphs.canonical import build_graph
from ..search.config import RunConfig
from ..system.plurals import pluralize
from ..workers.devices.discovery import (
    VisibleDevices,
    cpu_device_count,
    devices_per_chip,
    find_devices,
    resolve_platform,
    too_few_devices_error,
)
from ..workers.devices.memory_estimate import SMALLEST_MEMORY_FRACTION, MemoryEstimate, estimate_memory
from ..workers.devices.placement import JAX_MEMORY_FRACTION, Placement, place_workers

__all__ = ["Hardware", "choose_devices", "hardware_for"]


MOST_PER_CORE = 8
"""Largest number of workers per core. More workers would only compete for memory and time."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices and the workers on them.

    Attributes:
        devices: visible devices.
        placement: placement of the workers.
        need: estimated device memory of one training; None on CPUs.
        simulated: whether the devices are simulated.
        inline: whether candidates train in the process of the search.
    """

    devices: VisibleDevices
    placement: Placement
    need: MemoryEstimate | None = None
    simulated: bool = False
    inline: bool = False

    @property
    def memory_bytes(self) -> int | None:
        """Device memory that a worker may use, per device; None if unknown."""
        total = self.devices.memory_bytes
        if self.inline and self.devices.platform == "gpu" and total is not None:
            return int(JAX_MEMORY_FRACTION * total)
        return None if total is None else self.placement.resources.memory_bytes(total)

    def to_dict(self) -> dict[str, Any]:
        """Return the hardware as JSON values."""
        return {
            "devices": {
                "platform": self.devices.platform,
                "kind": self.devices.kind,
                "hosts": list(self.devices.per_host),
                "memory_bytes": self.devices.memory_bytes,
                "simulated": self.simulated,
            },
            "devices_per_worker": self.placement.resources.devices,
            "workers_per_device": self.placement.resources.per_device,
            "memory_needed_bytes": self.need and self.need.total,
            "memory_of_worker_bytes": self.memory_bytes,
        }

    def facts(self) -> dict[str, str]:
        """Return the lines of a plan by name; empty for CPUs."""
        if self.need is None:
            return {}
        devices, hosts = self.devices, self.devices.per_host
        memory = "" if devices.memory_bytes is None else f", {_gib(devices.memory_bytes)} each"
        spread = f" on {len(hosts)} hosts" if len(hosts) > 1 else ""
        simulated = " (simulated)" if self.simulated else ""
        parts = {"parameters": self.need.parameters, "optimizer": self.need.optimizer}
        parts["activations"] = self.need.activations
        split = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items())
        free = self.memory_bytes
        given = "the memory of a device is unknown" if free is None else f"a worker has {_gib(free)} of each device"
        return {
            "devices": f"{len(devices.kinds)} x {devices.kind}{memory}{spread}{simulated}",
            "memory": f"about {_gib(self.need.total)} for the baseline's size ({split}); {given}",
        }

    def notes(self) -> tuple[str, ...]:
        """Return messages for the user."""
        notes = []
        if self.devices.trouble:
            notes.append(f"training on the CPU: {self.devices.trouble}")
        chip = devices_per_chip(self.devices.kind) if self.devices.platform == "tpu" else 1
        share = self.placement.resources
        if share.devices % chip:
            more = share.devices + chip - share.devices % chip
            notes.append(
                f"a worker owns whole chips, and a chip of a {self.devices.kind} has {chip} devices: "
                f"trial.devices={more} would use all of them"
            )
        if self.need is not None and self.memory_bytes is not None and self.need.total > self.memory_bytes:
            notes.append(
                f"a candidate may need {_gib(self.need.total)} of device memory, but a worker has "
                f"{_gib(self.memory_bytes)}: lower trial.batch if many candidates run out of memory"
            )
        return tuple(notes)


def choose_devices(
    accel: str, address: str | None = None, fake: VisibleDevices | None = None, setting_of: str = ""
) -> VisibleDevices:
    """Return the devices for an accelerator: `fake` ones if given, else those of the cluster or of this machine.

    Args:
        accel: value of `--accel` or of the setting `workers.accel`.
        address: address of a Ray cluster.
        fake: devices to plan for.
        setting_of: name of the configuration that holds the setting, for messages; empty if `accel` is the option.

    Raises:
        UsageError: the accelerator is not found.
    """
    if fake is None:
        return find_devices(accel, address, setting_of)
    return fake if resolve_platform(accel, fake) == fake.platform else VisibleDevices("cpu", ("cpu",))


def hardware_for(
    config: RunConfig, devices: VisibleDevices, *, on_cluster: bool = False, simulated: bool = False
) -> Hardware:
    """Place the workers of a search on the devices, and return both.

    Args:
        config: run configuration with a resolved `workers.accel`.
        devices: devices to train on.
        on_cluster: whether Ray has counted the CPUs of a cluster; if not, this machine's usable cores are counted here.
        simulated: whether the devices are simulated.

    Raises:
        UsageError: the workers do not fit on the devices, or the baseline does not fit into a worker's memory.
    """
    wanted, inline = config.workers.count, config.workers.executor == "inline"
    if inline:
        wanted, seen = 1, cpu_device_count()
        if devices.platform == "cpu" and config.trial.devices > seen:  # other devices are counted in `place_workers`
            raise too_few_devices_error(config.trial.devices, seen, "cpu")
    elif devices.platform == "cpu" and not on_cluster and not simulated:
        from ..system.host import usable_core_count

        cores = usable_core_count()
        if wanted > MOST_PER_CORE * cores:
            raise UsageError(
                f"workers.count is {wanted}, but this machine has {pluralize(cores, 'core')}: give at most "
                f"{MOST_PER_CORE * cores}, or 0 for one worker per core"
            )
        devices = replace(devices, kinds=("cpu",) * cores)
    placement = place_workers(devices, devices=config.trial.devices, per_device=config.workers.per_device, count=wanted)
    if devices.platform == "cpu":
        return Hardware(devices, placement, simulated=simulated, inline=inline)
    graph = build_graph(config.model.library_program(config.search.baseline))
    need = estimate_memory(graph, config.model, config.trial, config.optimizer)
    hardware = Hardware(devices, placement, need, simulated, inline)
    if hardware.memory_bytes is not None and SMALLEST_MEMORY_FRACTION * need.total > hardware.memory_bytes:
        share = placement.resources
        given = f"a worker has {_gib(hardware.memory_bytes)} of each {devices.kind}"
        remedy = "workers.per_device" if share.per_device > 1 else "trial.batch, model.length or model.layers"
        raise UsageError(
            f"a candidate needs about {_gib(need.total)} of device memory, and {given}: lower {remedy}"
            f"{', or raise trial.devices' * (share.per_device == 1)}"
        )
    return hardware


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**30:.2f} GiB"
