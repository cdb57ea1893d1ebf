"""Preparation of Ray: address check, console output, signal handler, environment variables of workers.

By default, Ray's driver prints on stdout and stderr, replaces the SIGTERM handler, and passes its JAX_PLATFORMS to the
actors. It retries an unreachable address for two minutes and then ends the process. The functions here prevent this.
They do not import Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ...primitives.errors import UsageError
from ...system.allocator import allocator_environment
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
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # avoids a FutureWarning about actors without GPUs
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # keeps the raylet from printing on stdout; log_to_driver does not
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # results of killed workers are never read
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # with Ray's default of 15, any other program slows workers down
}


def silence_ray() -> None:
    """Keep Ray's messages off the console, except for variables the user has set. Call it before importing Ray."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def worker_environment(platform: Platform, threads: int, flags: str = "") -> dict[str, str]:
    """Return the environment variables of a worker with `threads` cores; `flags` are added to the user's XLA flags."""
    variables = {"JAX_PLATFORMS": _JAX_PLATFORMS[platform], **allocator_environment(threads)}
    for library in ("OMP", "OPENBLAS", "MKL"):
        variables[f"{library}_NUM_THREADS"] = str(threads)
    if threads == 1 and not CAN_PIN:  # a pinned worker needs no flag: XLA reads the affinity
        flags += " --xla_cpu_multi_thread_eigen=false"
    if flags:
        variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    return variables


def check_address(address: str | None, executor: str = "ray") -> None:
    """Check that a Ray cluster listens at an address; None and `auto` are not checked.

    Raises:
        UsageError: the executor is not `ray`, the address is neither `host:port` nor `auto`, or it cannot be
            reached within five seconds.
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
