"""Log of a study: one line of JSON for each finished training, written to disk as soon as it ends.

    {"format": 1, "study": {"model": {...}, "trial": {...}, ..., "dataset": "<hash>"}, "identity": "<hash of study>"}
    {"calibration_seconds": 0.0123}
    {"arm": "PRIMER_EZ", "key": "<hash of the arm>", "seed": 0, "evaluation": {...}}

An interrupted study resumes from its log. A log with other settings or another text is refused, because its losses
cannot be compared. A last line that a crash left incomplete is cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.locks import try_lock
from ...workers.protocol import Evaluation

__all__ = ["StudyLog", "json_hash"]

FORMAT = 1
START = b'{"format"'
"""Start of the first line, the header."""


def json_hash(values: Mapping[str, Any]) -> str:
    """Return a hash of JSON values that does not depend on the order of their names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


class StudyLog:
    """Finished trainings of one study; a context manager that locks the file against other writers.

    Args:
        path: path of the file, created with its folder if it does not exist; None keeps the trainings in memory only.
        study: everything that determines results, by section.

    Raises:
        UsageError: the file belongs to another study, is not a study log, is locked, or cannot be created.
    """

    def __init__(self, path: Path | None, study: Mapping[str, Any]):
        self.path = path
        self.study = study
        self.calibration_seconds: float | None = None
        self._results: dict[tuple[str, int], Evaluation] = {}
        self._file: int | None = None if path is None else _open_locked(path)
        if path is None:
            return
        try:
            self._load(path)
        except BaseException:
            self.close()
            raise

    def result(self, key: str, seed: int) -> Evaluation | None:
        """Return the result of an arm's training with a random seed, or None if it has not finished."""
        return self._results.get((key, seed))

    def add(self, arm: str, key: str, seed: int, evaluation: Evaluation) -> None:
        """Add a finished training."""
        self._results[key, seed] = evaluation
        self._append({"arm": arm, "key": key, "seed": seed, "evaluation": evaluation.to_dict()})

    def calibrate(self, seconds: float) -> None:
        """Record the step time of the baseline, so that a resumed study charges the same time."""
        self.calibration_seconds = seconds
        self._append({"calibration_seconds": seconds})

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> StudyLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, path: Path) -> None:
        assert self._file is not None
        *complete, rest = path.read_bytes().split(b"\n")
        try:
            lines = [dict[str, Any](json.loads(line)) for line in complete]
        except (ValueError, TypeError, RecursionError):
            raise UsageError(f"{path} is damaged: remove it, or choose another folder with -o") from None
        expected = {"format": FORMAT, "study": dict(self.study), "identity": json_hash(self.study)}
        header = lines[0] if lines else expected
        is_log = header.keys() == expected.keys() and header["format"] == FORMAT
        if not is_log or not (lines or rest.startswith(START[: len(rest)])):
            raise UsageError(f"{path} is not the log of a study: choose another folder with -o, or remove the file")
        if header["identity"] != expected["identity"]:
            raise UsageError(
                f"{path} holds trainings with other settings ({_first_difference(header['study'], self.study)}), "
                "which cannot be compared: choose another folder with -o, or repeat those settings"
            )
        if rest:
            os.ftruncate(self._file, sum(len(line) + 1 for line in complete))
        if not lines:
            self._append(expected)
        for line in lines[1:]:
            if "calibration_seconds" in line:
                self.calibration_seconds = float(line["calibration_seconds"])
            else:
                self._results[line["key"], line["seed"]] = Evaluation.from_dict(line["evaluation"])

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        try:
            os.lseek(self._file, 0, os.SEEK_END)
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise WorkFailedError(
                f"cannot write {self.path}: {error.strerror}; free some space and repeat the command"
            ) from error


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from error
    try:
        locked = try_lock(file)
    except OSError:  # the file system does not support locks
        locked = True
    if not locked:
        os.close(file)
        raise UsageError(f"another process writes {path}: wait until it ends, or choose another folder with -o")
    return file


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any], section: str = "") -> str:
    """Return text about the first setting that differs between two studies."""
    for name in (*before, *(name for name in now if name not in before)):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            return _first_difference(old, new, f"{section}{name}.")
        return f"{section}{name} was {_short_json(old)} and is {_short_json(new)}"
    return "another version of the log"


def _short_json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
