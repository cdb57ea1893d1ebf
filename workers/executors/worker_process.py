"""What lives in a worker process: one trainer, kept warm, and the latest word on its trial.

Plain Python: the executor makes it a Ray actor. It is made in two steps, because the executor can assign cores
only once it knows where the process landed, and everything that might load JAX must come after the pinning.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...system.host import machine_identity, machine_memory_bytes, pin_process, resident_bytes, usable_cores
from ..protocol import Evaluation, MakeTrainer, Progress, Trainer, TrialRequest

__all__ = ["HostInfo", "WorkerProcess"]


@dataclass(frozen=True, slots=True)
class HostInfo:
    """Where a worker landed.

    Attributes:
        machine: equal for processes that signals of each other reach.
        pid: its process number there.
        cores: those it may use.
        memory_bytes: of the machine.
        has_data: whether the dataset that was asked about is at hand there.
    """

    machine: str
    pid: int
    cores: tuple[int, ...]
    memory_bytes: int
    has_data: bool = True


class WorkerProcess:
    """One worker; `run` has a thread of its own, so that `report` answers beside it."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._progress = Progress("idle")

    def home(self, dataset: str | None = None) -> HostInfo:
        """Where this process landed, and whether this dataset is at hand there."""
        has_data = dataset is None or _has(dataset)
        return HostInfo(machine_identity(), os.getpid(), usable_cores(), machine_memory_bytes(), has_data)

    def prepare(
        self, make_trainer: bytes, cores: tuple[int, ...], folder: str = "", names: Sequence[str] = (), *contents: Any
    ) -> int:
        """Pin the process (no cores: leave it unpinned), make the trainer, and return the bytes held then.

        Args:
            make_trainer: pickled, so that unpickling it, which may import JAX, happens after the pinning.
            cores: the worker's share of the machine.
            folder, names, contents: a dataset missing on this machine, see `install_dataset`.
        """
        if cores:
            pin_process(cores)
        if names:
            from ..data.dataset_transfer import install_dataset

            install_dataset(folder, names, contents)
        maker: MakeTrainer = pickle.loads(make_trainer)
        self._trainer = maker()
        return resident_bytes()

    def run(self, request: TrialRequest) -> tuple[Evaluation, int]:
        """Train one candidate; returns its evaluation and the bytes held afterwards."""
        assert self._trainer is not None, "prepare comes before run"
        self._progress = Progress("starting")
        try:
            return self._trainer.run(request, self._note), resident_bytes()
        finally:
            self._progress = Progress("idle")

    def report(self) -> tuple[Progress, int]:
        """The latest progress, and the bytes held now."""
        return self._progress, resident_bytes()

    def _note(self, progress: Progress) -> None:
        self._progress = progress


def _has(dataset: str) -> bool:
    from ..data.dataset_transfer import find_local_dataset

    return find_local_dataset(dataset) is not None
