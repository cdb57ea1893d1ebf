"""The name of a worker's device, and the peak of its memory."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import jax

__all__ = ["device_name", "peak_memory_bytes", "reset_peak_memory"]


def device_name(count: int = 1) -> str:
    """Return the kind of device JAX runs on, such as `cpu x86_64` or `NVIDIA H100`; for several, `8 x NVIDIA H100`."""
    device = jax.devices()[0]
    kind = f"cpu {platform.machine()}" if device.platform == "cpu" else device.device_kind
    return kind if count == 1 else f"{count} x {kind}"


def reset_peak_memory() -> None:
    """Reset the peak of this process's resident memory, if the system supports it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int | None:
    """Return the peak memory of the device; on a CPU, the peak resident memory since `reset_peak_memory`.

    The peak of a GPU or TPU cannot be reset: it is the peak of all trials of this worker. None if it cannot be read.
    """
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics.get("peak_bytes_in_use")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
