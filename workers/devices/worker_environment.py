"""Environment variables of a worker: the platform that JAX uses, threads, and flags of XLA.

Without them, Ray passes the JAX_PLATFORMS of its driver to the actors.
"""

from __future__ import annotations

import os

from ...system.allocator import allocator_environment
from ...system.host import CAN_PIN
from ..protocol import Platform

__all__ = ["worker_environment"]

_JAX_PLATFORMS: dict[Platform, str] = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}
_AMD_PLATFORMS = "rocm,cpu"  # JAX's `gpu` fails where the plugin for one of the makers is missing


def worker_environment(platform: Platform, threads: int, flags: str = "", kind: str = "") -> dict[str, str]:
    """Return the environment variables of a worker.

    Args:
        platform: platform it trains on.
        threads: number of its cores.
        flags: added to the user's XLA flags.
        kind: kind of its device in Ray's words, which tells GPUs of AMD from those of NVIDIA.
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
