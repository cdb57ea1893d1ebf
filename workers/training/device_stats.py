"""What a worker's device is, and how much of its memory a trial used."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import jax

__all__ = ["device_name", "peak_memory_bytes", "reset_peak_memory"]


def device_name(count: int = 1) -> str:
    """The kind of device JAX runs on, such as `cpu x86_64` or `NVIDIA H100`; of several, `8 x NVIDIA H100`."""
    device = jax.devices()[0]
    kind = f"cpu {platform.machine()}" if device.platform == "cpu" else device.device_kind
    return kind if count == 1 else f"{count} x {kind}"


def reset_peak_memory() -> None:
    """Start measuring the peak anew, where the system can (Linux: resets the resident high-water mark)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int | None:
    """Peak memory since `reset_peak_memory`: of the device, or resident on CPU; None where it cannot be read.

    A device's own peak cannot be reset, so on GPU and TPU it is the highest of this worker so far.
    """
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics.get("peak_bytes_in_use")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
