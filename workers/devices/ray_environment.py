"""Preparation of Ray: address check, console output, signal handler, and the folder for Ray's sockets.

By default, Ray's driver prints on stdout and stderr and replaces the SIGTERM handler. It tries an unreachable address
for two minutes and then ends the process. The functions here prevent this. They do not import Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...primitives.errors import UsageError
from ...system.error_text import error_summary
from ...system.host import usable_core_count

__all__ = [
    "check_address",
    "keep_sigterm_handler",
    "ray_folder",
    "silence_ray",
    "start_failure",
    "started_too_slowly",
]

_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a socket that the system accepts."""

_SOCKET_IN_FOLDER = "/session_2026-03-14_15-09-26_535897_4194304/sockets/plasma_store"
"""Example of the longest path of a socket below Ray's folder."""

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # avoids a FutureWarning about actors without GPUs
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # keeps the raylet from printing on stdout; log_to_driver does not
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # results of killed workers are never read
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # with Ray's default of 15, any other program would slow workers down
}


def silence_ray() -> None:
    """Keep Ray's messages off the console. Variables that the user has set stay. Call this before importing Ray."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def ray_folder() -> Path | None:
    """Return a folder for Ray's sockets and logs, or None if Ray's default folder can be used.

    Ray's default is RAY_TMPDIR, TMPDIR or /tmp. Batch systems give each job a TMPDIR whose path is too long for a
    socket, and on a shared machine Ray's folder may belong to another user.

    Raises:
        UsageError: the folder in RAY_TMPDIR cannot be used; or neither Ray's default folder nor this package's folder
            in /tmp can be used; or the home folder is unknown, which Ray needs.
    """
    if "HOME" not in os.environ and os.path.expanduser("~") == "~":
        raise UsageError("Ray needs a home folder, but this user has none: set HOME to a folder that you can write")
    chosen = os.environ.get("RAY_TMPDIR")
    default = Path(chosen or (sys.platform == "linux" and os.environ.get("TMPDIR")) or "/tmp") / "ray"
    if not (trouble := _unusable(default)):
        return None
    own = Path("/tmp") / f"primer-search-ray-{os.getuid()}"
    if chosen is None and not _unusable(own, private=True):
        return own
    most = _SOCKET_BYTES - len(f"/ray{_SOCKET_IN_FOLDER}")
    raise UsageError(
        f"Ray cannot keep its sockets in {default}: {trouble}: set RAY_TMPDIR to a folder that you can write, "
        f"whose path has at most {most} bytes"
    )


def _unusable(folder: Path, private: bool = False) -> str:
    """Return why Ray cannot keep its sockets in a folder; empty: it can. A `private` folder must be this user's own."""
    excess = len(os.fsencode(f"{folder}{_SOCKET_IN_FOLDER}")) - _SOCKET_BYTES
    if excess > 0:
        return f"its path is {excess} bytes too long for a socket"
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return f"{place} cannot be written"
    if private and place == folder and folder.lstat().st_uid != os.getuid():
        return f"{place} belongs to another user"
    return ""


def started_too_slowly(error: Exception) -> bool:
    """Return whether Ray's own processes took too long to start. In this case, `ray.init` raises a plain Exception.

    The raylet, Ray's process on each machine, allows its agents 15 s to start (`WaitForPersistedPort` in Ray's
    src/ray/raylet/node_manager.cc), and `ray.init` allows the raylet 30 s (`Node` in ray/_private/node.py). Both limits
    are constants in the code of Ray 2.60: RAY_agent_register_timeout_ms and RAY_raylet_start_wait_time_s do not change
    them. So a failed start is repeated (see `RayCluster`).
    """
    return "timed out during startup" in str(error)


def start_failure(error: Exception) -> str:
    """Return the message that Ray did not start on this machine, with a remedy if the cause is known."""
    if not started_too_slowly(error):
        return f"Ray could not be started on this machine: {error_summary(error)}"
    load = f" (load average {os.getloadavg()[0]:.0f}, {usable_core_count()} cores)"
    return (
        f"Ray's own processes did not start within Ray's time limits in several attempts; the machine may be "
        f"overloaded{load}: resume the run when fewer programs are running, or search with --executor inline"
    )


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
    """Restore the caller's SIGTERM handler after the `with` block, because Ray replaces it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
