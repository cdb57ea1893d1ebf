"""Folder of a training that runs or was interrupted. It is next to the folder that the weights will be written to.

    12.training/  job.json    what is trained, and how
                  curve.json  learning curve so far
                  state-*/    saved state (see `workers.training.training_state`)

The folder is deleted after the weights have been written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...primitives import UsageError
from ...system.files import write_atomically
from ...system.locks import try_lock

__all__ = ["JOB", "SUFFIX", "begin_again", "open_training_folder", "read_recorded_job", "training_folder"]

SUFFIX = ".training"
JOB = "job.json"
"""Name of the file with the job in the folder."""

ESTIMATES = {"expected_seconds", "allowance_seconds", "suspicious_nats"}
"""Settings that a running search still changes; an interrupted training keeps the values that it started with."""


def training_folder(weights: Path) -> Path:
    """Return the folder of the training whose weights go to `weights`."""
    return weights.with_name(weights.name + SUFFIX)


@contextmanager
def open_training_folder(weights: Path, job: dict[str, Any], discard: bool) -> Iterator[Path]:
    """Create or reopen the folder of a training, and lock out other processes.

    Args:
        weights: folder of the weights.
        job: the training as JSON values.
        discard: whether to discard an interrupted training with other settings.

    Raises:
        UsageError: another process trains there, the folder has an interrupted training with other settings, or the
            folder cannot be written.
    """
    folder = training_folder(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error.strerror or error}); choose another folder with -o") from error
    try:
        if not try_lock(descriptor):
            raise UsageError(f"another process trains the weights of {weights}: wait for it, or choose another -o")
        recorded = read_recorded_job(weights) if (folder / JOB).is_file() else None
        difference = None if recorded is None else _difference(recorded, job)
        if difference and not discard:
            raise UsageError(
                f"{folder} holds an interrupted training with another {difference}: continue it with --resume "
                f"{weights}, or discard it with --force"
            )
        if recorded is None or difference:
            begin_again(folder, job)
        yield folder
    finally:
        os.close(descriptor)


def begin_again(folder: Path, job: dict[str, Any]) -> None:
    """Empty the folder of a training, and record what is trained.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_atomically(folder / JOB, json.dumps(job, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error.strerror or error}); choose another -o") from error


def read_recorded_job(weights: Path) -> dict[str, Any]:
    """Return the interrupted training whose weights will go to `weights`.

    Raises:
        UsageError: there is no interrupted training, or its description is damaged.
    """
    path = training_folder(weights) / JOB
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(job, dict):
            raise TypeError
    except OSError as error:
        if (weights / "model.json").is_file():
            raise UsageError(
                f"the training of {weights} is finished: train its weights further with --from {weights}"
            ) from error
        raise UsageError(f"{weights} has no interrupted training (no {path})") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: delete {path.parent}, and train again") from error
    return job


def _difference(recorded: dict[str, Any], job: dict[str, Any]) -> str:
    """Return the name of a setting in which two trainings differ; empty if they are the same."""
    for name in sorted((job.keys() | recorded.keys()) - ESTIMATES):
        if name not in recorded or name not in job:
            return name
        before, now = recorded[name], job[name]
        if isinstance(before, dict) and isinstance(now, dict):
            if inner := _difference(before, now):
                return inner
        elif before != now:
            return name
    return ""
