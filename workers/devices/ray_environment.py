"""Environment of Ray: address check, output, signals and environment variables of workers. It does not import Ray.

It changes four habits of Ray's driver: to print on stdout and stderr, to replace the SIGTERM handler, to try a dead
address for two minutes and then end the process, and to pass the driver's JAX_PLATFORMS to its actors.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ...primitives.errors import UsageError
from ...system.host import CAN_PIN
from ..protocol import Platform

__all__ = [
    "check_address",
    "keep_sigterm_handler",
    "silence_ray",
    "worker_environment",
]

_JAX_PLATFORMS: dict[Platform, str] = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning about actors without GPUs
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # else the raylet prints on stdout, even without log_to_driver
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # results of killed workers are never read
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's default, 15, lets any other program slow workers down
}


def silence_ray() -> None:
    """Keep Ray's messages off the console, except for variables the user has set. Call it before importing Ray."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def worker_environment(platform: Platform, threads: int, flags: str = "") -> dict[str, str]:
    """Return the environment variables of a worker with `threads` cores; `flags` are added to the user's XLA flags."""
    variables = {"JAX_PLATFORMS": _JAX_PLATFORMS[platform], "JAX_ENABLE_COMPILATION_CACHE": "false"}
    for library in ("OMP", "OPENBLAS", "MKL"):
        variables[f"{library}_NUM_THREADS"] = str(threads)
    if threads == 1 and not CAN_PIN:  # elsewhere XLA reads the affinity
        flags += " --xla_cpu_multi_thread_eigen=false"
    if flags:
        variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    return variables


def check_address(address: str | None, executor: str = "ray") -> None:
    """Check the address of a Ray cluster. None is accepted.

    Raises:
        UsageError: the executor is not `ray`, the address is neither `host:port` nor `auto`, or it does not answer
            within five seconds.
    """
    if address is not None and executor != "ray":
        raise UsageError(f"--address joins a Ray cluster, but workers.executor is {executor}: leave --address out")
    if address is None or address == "auto":
        return
    host, separator, port = address.rpartition(":")
    if "://" in address or not separator or not port.isdigit():
        raise UsageError(f"--address {address} is not a Ray address: write host:port (Ray's port is 6379), or auto")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        remedy = "start one there with `ray start --head`, or leave --address out"
        raise UsageError(f"no Ray cluster answers at --address {address} ({error}): {remedy}") from error


@contextmanager
def keep_sigterm_handler() -> Iterator[None]:
    """Keep the caller's SIGTERM handler, which Ray would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
