"""The connection to a Ray cluster: start or join it, launch actors, wait for answers.

This is the only module of the package that imports Ray. Ray's errors about workers are raised as `WorkerError`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

import psutil

from ...primitives.errors import UsageError, WorkFailedError
from ...system.host import is_alive, kill_process_tree
from ..devices.ray_environment import (
    check_address,
    keep_sigterm_handler,
    ray_folder,
    silence_ray,
    start_failure,
    started_too_slowly,
)
from . import ray_actor
from .package_wheel import build_wheel

silence_ray()

import ray  # noqa: E402
from ray import cloudpickle  # noqa: E402
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError  # noqa: E402

__all__ = ["RayCluster", "WorkerError", "serialize"]

# The package may not be installed on the machine of a worker.
cloudpickle.register_pickle_by_value(ray_actor)  # pyright: ignore[reportPrivateImportUsage]

_SECONDS_TO_END = 5.0
"""Time that the killed processes of a failed start have to end."""

_OBJECT_STORE_BYTES = 200 * 2**20
"""Memory of Ray's object store. It holds requests and evaluations only; Ray's default is 30% of the machine."""

_VITAL = ("raylet", "gcs_server")
"""Ray's processes that a cluster cannot run without."""

_STARTS = 3
"""Largest number of attempts to start a cluster here, if Ray's own processes take too long (`started_too_slowly`)."""


class WorkerError(Exception):
    """A worker answered with an error.

    Attributes:
        kind: `raised` if the worker's code raised an exception, `out_of_memory` if Ray killed the worker because its
            machine ran out of memory, `died` if its process is gone, `failed` for other errors, such as an error in the
            actor's constructor.
        cause: exception of the worker's code, or Ray's own error.
    """

    def __init__(self, error: RayError):
        super().__init__(str(error))
        self.kind = _kind(error)
        cause = error.cause if isinstance(error, RayTaskError) else error
        self.cause: Exception = cause if isinstance(cause, Exception) else error


def _processes_of_own_sessions() -> set[psutil.Process]:
    """Return the processes of Ray sessions that this process started, even if their parent process has ended."""
    session = re.compile(rf"session_[\d_-]+_{os.getpid()}\b")
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if session.search(" ".join(process.cmdline())):
                found.add(process)
    return found


class RayCluster:
    """A Ray cluster, joined at an address or started on this machine.

    Args:
        address: address of a running cluster (`host:port`, or `auto` for the one on this machine); None starts one.
        tell: callback that receives messages about a slow start.

    Attributes:
        daemons: processes that `connect` started on this machine.
    """

    def __init__(self, address: str | None, tell: Callable[[str], None] = lambda line: None):
        self.address = address
        self._tell = tell
        self.daemons: list[psutil.Process] = []
        self._vital: dict[str, psutil.Process] = {}
        self._connected = False
        self._actors: Any = None
        self._arguments: tuple[Any, ...] = ()

    def connect(self, cores: int) -> None:
        """Join the cluster, or start one with this number of cores. A started cluster ends with this process.

        Raises:
            UsageError: the cluster cannot be joined, or no folder can hold Ray's sockets.
            WorkFailedError: Ray cannot be started here.
        """
        if ray.is_initialized():
            return
        check_address(self.address)
        options = {} if self.address else _options_of_own_cluster(cores)
        before = set(psutil.Process().children())
        self._connected = True
        try:
            self._start(options)
        except Exception as error:
            if not (isinstance(error, (ConnectionError, RuntimeError, OSError)) or started_too_slowly(error)):
                raise
            if self.address is None:
                raise WorkFailedError(start_failure(error)) from error
            text = " ".join(str(error).split())  # Ray's message about different versions has several lines
            raise UsageError(f"cannot join the Ray cluster at --address {self.address}: {text}") from error
        finally:
            self.daemons = [child for child in psutil.Process().children() if child not in before]
            with suppress(psutil.Error):
                self._vital = {child.name(): child for child in self.daemons if child.name() in _VITAL}

    def _start(self, options: dict[str, Any]) -> None:
        """Call `ray.init`, and repeat it if Ray's processes took too long to start.

        The next start may be faster: Ray's files may be in memory by then, or other programs may have ended. Ray leaves
        the processes of a failed start running, so they are killed here.
        """
        before = set(psutil.Process().children())
        for number in range(1, _STARTS + 1):
            try:
                with keep_sigterm_handler():
                    ray.init(self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
                return
            except Exception as error:
                if number == _STARTS or not started_too_slowly(error):
                    raise
                self._tell(
                    "note: Ray's own processes did not start within Ray's time limits: "
                    f"attempt {number + 1} of {_STARTS}"
                )
                left = (set(psutil.Process().children()) - before) | _processes_of_own_sessions()
                for process in left:
                    kill_process_tree(process)
                psutil.wait_procs(left, timeout=_SECONDS_TO_END)

    def disconnect(self) -> None:
        """Leave the cluster. End it if it was started here."""
        if self._connected:
            ray.shutdown()
        self._connected, self.daemons, self._vital = False, [], {}

    def raise_if_dead(self) -> None:
        """Check the cluster's processes that were started here. Without them, trials would never finish.

        Raises:
            WorkFailedError: a process that the cluster needs has died.
        """
        for name, daemon in self._vital.items():
            if not is_alive(daemon):
                raise WorkFailedError(
                    f"Ray's process {name} on this machine has died, so no trial can run: "
                    "look for the cause in /tmp/ray/session_latest/logs, then resume the run"
                )

    def nodes(self) -> list[dict[str, float]]:
        """Return the resources of each node that is alive."""
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def define_actors(self, environment: dict[str, str], options: dict[str, Any]) -> None:
        """Set the environment variables and Ray's options of the actors; on a joined cluster, ship the package."""
        self._actors = cast(Any, ray).remote(
            concurrency_groups={"report": 1},
            runtime_env={"env_vars": environment},
            max_restarts=0,  # Ray would repeat a trial without its limits
            max_task_retries=0,
            **options,
        )(ray_actor.Worker)
        if self.address is not None:
            wheel = build_wheel()
            self._arguments = wheel.digest, self.put(wheel.content)

    def launch(self) -> Any:
        """Start an actor, and return its handle without waiting."""
        return self._actors.remote(*self._arguments)

    def put(self, value: Any) -> Any:
        """Place a value in Ray's object store, from which each machine fetches it once."""
        return ray.put(value)

    def answers(self, pending: Sequence[Any], timeout_seconds: float = 0.0) -> list[Any]:
        """Return the pending answers that have arrived, after waiting at most this long for the first."""
        if not pending or not ray.wait(list(pending), num_returns=1, timeout=timeout_seconds)[0]:
            return []
        return ray.wait(list(pending), num_returns=len(pending), timeout=0)[0]

    def read(self, answer: Any) -> Any:
        """Return the value of an answer that has arrived.

        Raises:
            WorkerError: the answer is an error.
        """
        try:
            return ray.get(answer)
        except RayError as error:
            raise WorkerError(error) from error

    def kill(self, actor: Any) -> None:
        """Kill an actor. Nothing happens if the actor is already dead."""
        with suppress(RayError, ValueError):
            ray.kill(actor, no_restart=True)


def _options_of_own_cluster(cores: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "num_cpus": cores,
    }
    if (folder := ray_folder()) is not None:
        folder.mkdir(mode=0o700, exist_ok=True)
        options["_temp_dir"] = str(folder)
    return options


def serialize(value: Any) -> bytes:
    """Pickle a value. Functions and classes that `pickle` cannot serialize are supported."""
    return cloudpickle.dumps(value)  # pyright: ignore[reportPrivateImportUsage]


def _kind(error: RayError) -> Literal["raised", "out_of_memory", "died", "failed"]:
    if isinstance(error, OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, RayTaskError):
        return "raised"
    return "died" if isinstance(error, RayActorError) and not error.actor_init_failed else "failed"
