"""The record of a study: every finished training as one line of JSON, on the disk before the next one begins.

    {"format": 1, "study": {"model": {...}, "trial": {...}, ..., "dataset": "<hash>"}, "identity": "<hash of study>"}
    {"calibration_seconds": 0.0123}
    {"arm": "PRIMER_EZ", "key": "<hash of the arm>", "seed": 0, "evaluation": {...}}

An interrupted study resumes from its record; one of other settings or other text is refused, since its numbers
would not compare. A last line that was torn by a crash is cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.locks import try_lock
from ...workers.protocol import Evaluation

__all__ = ["StudyLog", "json_hash"]

FORMAT = 1


def json_hash(values: Mapping[str, Any]) -> str:
    """A hash of plain JSON values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


class StudyLog:
    """The finished trainings of one study; a context manager that holds the file against other writers.

    Args:
        path: of the file, made with its folder if it is not there; None keeps the record in memory alone.
        study: everything that determines results, by section.

    Raises:
        UsageError: the file is of another study, no record at all, held by another process, or cannot be made.
    """

    def __init__(self, path: Path | None, study: Mapping[str, Any]):
        self.path = path
        self.study = study
        self.calibration_seconds: float | None = None
        self._results: dict[tuple[str, int], Evaluation] = {}
        self._file: int | None = None if path is None else _opened(path)
        if path is None:
            return
        try:
            self._take_in(path)
        except BaseException:
            self.close()
            raise

    def result(self, key: str, seed: int) -> Evaluation | None:
        """What an arm's training with a seed gave, None before it is finished."""
        return self._results.get((key, seed))

    def add(self, arm: str, key: str, seed: int, evaluation: Evaluation) -> None:
        """Keep a finished training."""
        self._results[key, seed] = evaluation
        self._append({"arm": arm, "key": key, "seed": seed, "evaluation": evaluation.to_dict()})

    def calibrate(self, seconds: float) -> None:
        """Record the step time of the reference program, so that a resumed study charges the same."""
        self.calibration_seconds = seconds
        self._append({"calibration_seconds": seconds})

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> StudyLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_in(self, path: Path) -> None:
        lines = list(self._whole_lines(path))
        if not lines:
            self._append({"format": FORMAT, "study": dict(self.study), "identity": json_hash(self.study)})
            return
        header = lines[0]
        if header.get("format") != FORMAT or not isinstance(header.get("study"), dict):
            raise UsageError(f"{path} is no record of a study: choose another folder with -o, or remove the file.")
        if header.get("identity") != json_hash(self.study):
            raise UsageError(
                f"{path} holds trainings under other settings ({_first_difference(header['study'], self.study)}), "
                "which do not compare: choose another folder with -o, or give the settings it was made with."
            )
        for line in lines[1:]:
            if "calibration_seconds" in line:
                self.calibration_seconds = float(line["calibration_seconds"])
            else:
                self._results[line["key"], line["seed"]] = Evaluation.from_dict(line["evaluation"])

    def _whole_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """The lines that were written in full; what follows the last of them is cut off the file."""
        assert self._file is not None
        content, end = path.read_bytes(), 0
        while (stop := content.find(b"\n", end)) >= 0:
            try:
                line = json.loads(content[end:stop])
            except (ValueError, RecursionError):
                line = None
            if not isinstance(line, dict):
                if content.find(b"\n", stop + 1) >= 0 or end == 0:
                    raise UsageError(f"{path} is damaged: remove it, or choose another folder with -o.")
                break
            yield line
            end = stop + 1
        if end == 0 and content and not content.startswith(b'{"format"'[: len(content)]):
            raise UsageError(f"{path} is no record of a study: choose another folder with -o, or remove the file.")
        if end < len(content):
            os.ftruncate(self._file, end)

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
                f"cannot write {self.path}: {error.strerror}; make room for it and run the same command again."
            ) from error


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another folder with -o.") from error
    try:
        held = not try_lock(file)
    except OSError:  # a file system that cannot lock
        held = False
    if held:
        os.close(file)
        raise UsageError(f"{path} is being written by another process: wait for it, or choose another folder with -o")
    return file


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> str:
    """The first setting in which two studies differ, in words."""
    for name in (*before, *(name for name in now if name not in before)):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            return _first_difference(old, new, f"{at}{name}.")
        return f"{at}{name} was {_short(old)} and is {_short(new)}"
    return "another version of the record"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
