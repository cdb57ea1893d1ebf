"""Choice of the executor from the configuration. Neither Ray nor JAX is imported before an executor is made."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

from ...primitives.errors import UsageError
from ..config import WorkersConfig
from ..devices.ray_environment import ray_folder
from ..protocol import Executor, MakeTrainer, Platform

__all__ = ["check_installed", "make_executor"]


def make_executor(
    workers: WorkersConfig,
    make_trainer: MakeTrainer,
    *,
    wall_limit_seconds: float,
    preparation_seconds: float = math.inf,
    platform: Platform = "cpu",
    address: str | None = None,
    devices: int = 1,
    dataset: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Executor:
    """Return the configured executor, not started yet.

    Args:
        workers: kind of executor, number of workers, and memory limit of each.
        make_trainer: picklable function, called once in every worker.
        wall_limit_seconds: wall clock after which a trial is killed (Ray only).
        preparation_seconds: wall clock after which a trial that still compiles or probes is killed (Ray only).
        platform: kind of devices to train on.
        address: address of a running Ray cluster; None starts one on this machine.
        devices: number of devices of one trial.
        dataset: folder of the prepared text, sent to a cluster's machines that lack it.
        tell: callback that receives messages about a slow start.
    """
    if workers.executor == "inline":
        from .inline import InlineExecutor

        return InlineExecutor(make_trainer)
    check_installed(workers.executor)
    from ..devices.placement import WorkerResources
    from .ray_pool import RayExecutor

    return RayExecutor(
        make_trainer,
        slots=workers.count,
        resources=WorkerResources(platform, devices, workers.per_device),
        dataset=dataset,
        address=address,
        tell=tell,
        wall_limit_seconds=wall_limit_seconds,
        preparation_seconds=preparation_seconds,
        memory_limit_bytes=round(workers.memory_gib * 2**30),
    )


def check_installed(executor: str, address: str | None = None) -> None:
    """Check, without importing Ray, that Ray is installed and a folder can hold its sockets, if the executor needs Ray.

    Raises:
        UsageError: Ray is not installed, or no folder can hold its sockets.
    """
    if executor != "ray":
        return
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "workers.executor = ray, but Ray is not installed: pip install ray, or use --executor inline to train in "
            "this process"
        )
    if address is None:
        ray_folder()
