"""States of a training on disk, from which the training continues exactly.

    FOLDER/state-000001200/  arrays/      parameters, optimizer and average, as an Orbax checkpoint
                             state.json   the progress of the training, and a hash of every file of arrays/

A state is written under a temporary name and renamed when it is complete. If the process is killed at any time, the
previous state remains. Batches depend on the seed and the step alone, and nothing else in a training is random. So the
number of steps gives the position in the data, and no random generator has to be saved.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ...primitives.errors import UsageError
from ...system.error_text import error_summary
from ...system.files import file_sha256
from .steps.train_state import TrainState
from .training_settings import UnusableState

__all__ = ["TrainingStates"]

PREFIX, ARRAYS, PROGRESS = "state-", "arrays", "state.json"


class TrainingStates:
    """The states of one training. At most one is kept, the newest.

    Args:
        folder: existing folder of the states; other files in it are not changed.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def newest(self) -> Path | None:
        """Folder of the newest state; None if there is none."""
        return max((path for path in self.folder.glob(f"{PREFIX}*") if (path / PROGRESS).is_file()), default=None)

    def save(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        """Write a state, then delete older ones.

        Args:
            state: state after `progress["steps"]` steps.
            progress: JSON values that `load` returns.

        Raises:
            UsageError: the folder cannot be written, or has no space. The previous state is kept.
        """
        target = self.folder / f"{PREFIX}{progress['steps']:09d}"
        if target.exists():
            return
        temporary = self.folder / f".{target.name}.{secrets.token_hex(4)}"
        try:
            temporary.mkdir()
            self._write(temporary, state, progress)
            temporary.rename(target)
            _flush(self.folder)
        except (OSError, ValueError, RuntimeError) as error:  # Orbax reports a full disk as ValueError
            why = error.strerror if isinstance(error, OSError) and error.strerror else error_summary(error)
            raise UsageError(f"cannot save the state of the training in {self.folder} ({why[:200]})") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._delete_all_but(target)

    def load(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Return the newest state, on the host, and its progress; None if there is none.

        Args:
            like: state whose shapes and dtypes the saved one must have.

        Raises:
            UnusableState: the state is damaged, or belongs to another training.
        """
        found = self.newest
        if found is None:
            return None
        try:
            progress = json.loads((found / PROGRESS).read_text(encoding="utf-8"))
            for name, expected in progress.pop("files").items():
                if file_sha256(found / name) != expected:
                    raise ValueError(f"{name} has changed")
            restored = _restore(like, _read_arrays(found / ARRAYS))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnusableState(
                f"{found} is damaged, or belongs to another training or version ({error_summary(error)[:200]})"
            ) from error
        self._delete_all_but(found)
        return restored, progress

    def _write(self, folder: Path, state: TrainState, progress: Mapping[str, Any]) -> None:
        from orbax.checkpoint import v1 as orbax

        orbax.save(str((folder / ARRAYS).absolute()), _named_arrays(jax.device_get(state)))
        written = sorted((folder / ARRAYS).rglob("*"))
        files = [path for path in written if path.is_file()]
        hashes = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
        (folder / PROGRESS).write_text(json.dumps({**progress, "files": hashes}, allow_nan=False), encoding="utf-8")
        for path in (*written, folder / ARRAYS, folder / PROGRESS, folder):
            _flush(path)

    def _delete_all_but(self, kept: Path) -> None:
        """Delete all other states, and incomplete states of killed processes."""
        for path in (*self.folder.glob(f"{PREFIX}*"), *self.folder.glob(f".{PREFIX}*")):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)


def _named_arrays(state: TrainState) -> dict[str, np.ndarray]:
    """Return the arrays of a state by their paths, without empty arrays, which Orbax cannot save."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return {name: array for name, array in named.items() if array.size}


def _restore(like: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    restored = []
    for path, leaf in leaves:
        expected = np.asarray(leaf)
        array = np.asarray(arrays[jax.tree_util.keystr(path)]) if expected.size else expected
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"{jax.tree_util.keystr(path)} is {array.dtype}{list(array.shape)}")
        restored.append(array)
    return jax.tree_util.tree_unflatten(structure, restored)


def _read_arrays(folder: Path) -> Mapping[str, np.ndarray]:
    from orbax.checkpoint import v1 as orbax

    arrays: Any = orbax.load(str(folder.absolute()))
    return arrays


def _flush(path: Path) -> None:
    """Write a file or folder through to the disk, so that it survives a power failure if the file system allows it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
