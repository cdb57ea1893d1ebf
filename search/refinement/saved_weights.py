"""Weights that are saved, and trainings that were interrupted, by the names that users give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...primitives import UsageError
from ...system.user_folders import user_path
from ..runs.run_directory import find_run
from .training_folder import read_recorded_job, training_folder
from .training_job import TrainingJob

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights

__all__ = ["interrupted_job", "load_saved_weights", "load_weights_folder"]


def load_saved_weights(job: TrainingJob) -> Weights | None:
    """Return the weights that the job trains, if they are saved, or None.

    Raises:
        UsageError: the weights are damaged, or of another program.
    """
    from ...models.checkpoint import load_weights

    return load_weights(job.folder, dna=job.dna) if job.folder.exists() else None


def load_weights_folder(place: str) -> Weights:
    """Return the weights in a folder that a user names.

    Raises:
        UsageError: the folder holds no weights, damaged ones, or a run, which needs a candidate as well.
    """
    from ...models.checkpoint import load_weights

    folder = user_path(place)
    if training_folder(folder).is_dir() and not folder.exists():
        raise UsageError(f"the training of {folder} is not finished: continue it with `primer-search train --resume`")
    if not (folder / "model.json").is_file():
        raise UsageError(f"{find_run(place).path} is a run: name a candidate as well, such as `best`")
    return load_weights(folder)


def interrupted_job(place: str) -> TrainingJob:
    """Return the job of an interrupted training, by the folder that its weights will go to.

    Raises:
        UsageError: there is no interrupted training, or it is of another version.
    """
    folder = user_path(place)
    folder = folder.with_suffix("") if training_folder(folder.with_suffix("")) == folder else folder
    return TrainingJob.from_dict(folder, read_recorded_job(folder))
