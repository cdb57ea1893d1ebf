"""The state of a worker process: one trainer, kept between trials, and the latest progress of its trial.

The executor wraps this plain class in a Ray actor. A worker starts in two steps, `host_info` and `prepare`, because the
executor can assign cores only when it knows the machine of the process, and the process must be pinned to its cores
before JAX is loaded.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from ...system.allocator import return_freed_memory
from ...system.host import (
    kill_process_tree,
    machine_identity,
    machine_memory_bytes,
    pin_process,
    resident_bytes,
    usable_cores,
)
from ...system.orphans import adopt_orphans
from ..protocol import Evaluation, MakeTrainer, Progress, Trainer, TrialRequest

__all__ = ["HostInfo", "WorkerProcess"]

_GONE_SECONDS = 5.0
"""Time after which a killed process should be gone."""


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The machine of a worker.

    Attributes:
        machine: identity of the machine, equal for processes that can send signals to each other.
        pid: process number of the worker.
        cores: cores that the worker may use.
        memory_bytes: memory of the machine.
        has_data: whether the machine has the dataset.
    """

    machine: str
    pid: int
    cores: tuple[int, ...]
    memory_bytes: int
    has_data: bool = True


class WorkerProcess:
    """One worker. `run` has its own thread, so that `report` can be called during a trial."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._progress = Progress("idle")

    def host_info(self, dataset: str | None = None) -> HostInfo:
        """Return the machine of this process, and whether it has this dataset."""
        has_data = dataset is None or _has_dataset(dataset)
        return HostInfo(machine_identity(), os.getpid(), usable_cores(), machine_memory_bytes(), has_data)

    def prepare(
        self, make_trainer: bytes, cores: tuple[int, ...], folder: str = "", names: Sequence[str] = (), *contents: Any
    ) -> int:
        """Pin the process, make the trainer, and return the bytes of memory that the process then holds.

        Args:
            make_trainer: pickled function; unpickling may import JAX, so it happens after the pinning.
            cores: cores of this worker; empty: do not pin.
            folder, names, contents: a dataset missing on this machine, see `install_dataset`.
        """
        adopt_orphans()
        if cores:
            pin_process(cores)
        if names:
            from ..data.dataset_transfer import install_dataset

            install_dataset(folder, names, contents)
        maker: MakeTrainer = pickle.loads(make_trainer)
        self._trainer = maker()
        return resident_bytes()

    def run(self, request: TrialRequest) -> tuple[Evaluation, int]:
        """Run a trial and kill the processes that it leaves. Return its evaluation and the bytes held afterwards."""
        assert self._trainer is not None, "prepare comes before run"
        self._progress = Progress("starting")
        before = set(psutil.Process().children())
        try:
            evaluation = self._trainer.run(request, self._set_progress)
            return_freed_memory()
            return evaluation, resident_bytes()
        finally:
            for left in set(psutil.Process().children()) - before:
                for process in kill_process_tree(left):
                    with suppress(psutil.Error):
                        process.wait(_GONE_SECONDS)
            self._progress = Progress("idle")

    def report(self) -> tuple[Progress, int]:
        """Return the latest progress, and the bytes held now."""
        return self._progress, resident_bytes()

    def _set_progress(self, progress: Progress) -> None:
        self._progress = progress


def _has_dataset(dataset: str) -> bool:
    from ..data.dataset_transfer import find_local_dataset

    return find_local_dataset(dataset) is not None
