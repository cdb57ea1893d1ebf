"""The executor that a configuration asks for. Neither Ray nor JAX is imported before one is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from ...primitives.errors import UsageError
from ..config import WorkersConfig
from ..protocol import Executor, MakeTrainer, Platform

__all__ = ["check_installed", "make_executor"]


def make_executor(
    workers: WorkersConfig,
    make_trainer: MakeTrainer,
    *,
    wall_limit_seconds: float,
    platform: Platform = "cpu",
    address: str | None = None,
    devices: int = 1,
    dataset: str | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Executor:
    """The executor a configuration asks for, not started yet.

    Args:
        workers: which executor, how many workers, and how much memory each may use.
        make_trainer: picklable; called once in every worker.
        wall_limit_seconds: wall clock after which a trial is killed (Ray only; a process cannot kill itself and go on).
        platform: where to train.
        address: of a running Ray cluster; None starts one on this machine.
        devices: how many of them one trial takes.
        dataset: folder of the prepared text, which goes along to a cluster's machines that lack it.
        stop_requested: whether somebody asked to stop, for `inline`, whose `wait` lasts as long as a trial.
    """
    if workers.executor == "inline":
        from .inline import InlineExecutor

        return InlineExecutor(make_trainer, stop_requested)
    check_installed(workers.executor)
    from ..devices.placement import WorkerResources
    from .ray_pool import RayExecutor

    return RayExecutor(
        make_trainer,
        slots=workers.count,
        share=WorkerResources(platform, devices, workers.per_device),
        dataset=dataset,
        address=address,
        wall_limit_seconds=wall_limit_seconds,
        memory_limit_bytes=round(workers.memory_gib * 2**30),
    )


def check_installed(executor: str) -> None:
    """Raise UsageError if the executor needs Ray and Ray is not installed; imports nothing."""
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError(
            "workers.executor is ray, which is not installed: pip install ray, or train in this process alone with "
            "--executor inline."
        )
