"""Environment variables of a worker: the platform that JAX uses, numbers of threads, and flags of XLA.

Without these variables, the actors would inherit JAX_PLATFORMS from Ray's driver process.
"""

from __future__ import annotations

import os

from ...system.allocator import allocator_environment
from ...system.host import CAN_PIN
from ..protocol import Platform

__all__ = ["worker_environment"]

_JAX_PLATFORMS: dict[Platform, str] = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
_AMD_PLATFORMS = "rocm,cpu"  # JAX's `gpu` fails if the plugin of either vendor is missing


def worker_environment(platform: Platform, threads: int, flags: str = "", kind: str = "") -> dict[str, str]:
    """Return the environment variables of a worker.

    Args:
        platform: platform that the worker trains on.
        threads: number of the worker's cores.
        flags: XLA flags to add to the user's flags.
        kind: Ray's name of the kind of device, which distinguishes AMD GPUs from NVIDIA GPUs.
    """
    amd = platform == "gpu" and kind.upper().startswith("AMD")
    platforms = _AMD_PLATFORMS if amd else _JAX_PLATFORMS[platform]
    variables = {"JAX_PLATFORMS": platforms, "JAX_PLATFORM_NAME": "", **allocator_environment(threads)}
    for library in ("OMP", "OPENBLAS", "MKL"):
        variables[f"{library}_NUM_THREADS"] = str(threads)
    if threads == 1 and not CAN_PIN:  # a pinned worker needs no flag: XLA reads the affinity
        flags += " --xla_cpu_multi_thread_eigen=false"
    if flags:
        variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    return variables
