"""Look-up of saved weights and interrupted trainings, by the folder that a user names or by candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...primitives import UsageError
from ...system.user_folders import user_path
from ...workers.training.training_settings import CURVE
from ..runs.run_directory import find_run
from .training_folder import JOB, SUFFIX, read_recorded_job, training_folder
from .training_job import TrainingJob

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights

__all__ = ["SavedTraining", "interrupted_job", "load_saved_weights", "load_weights_folder", "saved_trainings"]


@dataclass(frozen=True, slots=True)
class SavedTraining:
    """One training of a candidate's weights, finished or not.

    Attributes:
        name: name of its folder.
        finished: whether its weights are saved.
        facts: record of the training in `model.json`; for an unfinished training, its job.
        model: settings of the shape of the model.
        curve: content of `curve.json`: points [budget spent, steps, loss in nats] of `training` and `validation`.
    """

    name: str
    finished: bool
    facts: Mapping[str, Any]
    model: Mapping[str, Any]
    curve: Mapping[str, Any]

    @property
    def last(self) -> tuple[int, float] | None:
        """Steps and held-out loss at the last evaluation; None before the first."""
        points = self.curve.get("validation") or []
        return (int(points[-1][1]), float(points[-1][2])) if points else None


def saved_trainings(weights: Path) -> tuple[SavedTraining, ...]:
    """Return the trainings in a candidate's folder of weights and in the folders named after it, except damaged ones.

    Args:
        weights: folder of the candidate's weights, which may be missing.
    """
    folders = [weights, *weights.parent.glob(f"{weights.name}-*"), *weights.parent.glob(f"{weights.name}{SUFFIX}")]
    found = [_read_training(folder) for folder in sorted(folders)]
    return tuple(training for training in found if training is not None)


def _read_training(folder: Path) -> SavedTraining | None:
    finished = not folder.name.endswith(SUFFIX)
    try:
        values = json.loads((folder / ("model.json" if finished else JOB)).read_text(encoding="utf-8"))
        facts, model = (values["training"], values["model"]) if finished else (values, values["config"]["model"])
        curve = json.loads((folder / CURVE).read_text(encoding="utf-8")) if (folder / CURVE).is_file() else {}
        return SavedTraining(folder.name.removesuffix(SUFFIX), finished, dict(facts), dict(model), dict(curve))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def load_saved_weights(job: TrainingJob) -> Weights | None:
    """Return the weights that the job trains, if they are saved, or None.

    Raises:
        UsageError: the weights are damaged, or belong to another program.
    """
    from ...models.checkpoint import load_weights

    return load_weights(job.folder, dna=job.dna) if job.folder.exists() else None


def load_weights_folder(place: str) -> Weights:
    """Return the weights in a folder that a user names.

    Raises:
        UsageError: the folder holds no weights or damaged ones, or it is a run, which needs a candidate as well.
    """
    from ...models.checkpoint import load_weights

    folder = user_path(place)
    if training_folder(folder).is_dir() and not folder.exists():
        raise UsageError(f"the training of {folder} is not finished: continue it with `primer-search train --resume`")
    if not (folder / "model.json").is_file():
        raise UsageError(f"{find_run(place).path} is a run: name a candidate as well, such as `best`")
    return load_weights(folder)


def interrupted_job(place: str) -> TrainingJob:
    """Return the job of an interrupted training.

    Args:
        place: folder that its weights will be written to, or the folder of the training itself.

    Raises:
        UsageError: there is no interrupted training, or another version of this package wrote it.
    """
    folder = user_path(place)
    folder = folder.with_suffix("") if training_folder(folder.with_suffix("")) == folder else folder
    return TrainingJob.from_dict(folder, read_recorded_job(folder))
