"""Examples of instruction tuning, read from JSON lines: `inputs`, `targets`, and optionally the `task`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...primitives.errors import UsageError

__all__ = ["Example", "held_out_examples", "read_examples"]

HELD_OUT_ONE_IN = 10
"""One in this many examples is held out."""

FORM = '{"inputs": "...", "targets": "..."}, with an optional "task"'


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction and its answer.

    Attributes:
        inputs: text that the model reads.
        targets: answer that it learns.
        task: name of the task, for the mixture.
    """

    inputs: str
    targets: str
    task: str


def read_examples(paths: Sequence[Path | str]) -> list[Example]:
    """Read files of JSON lines. Empty lines and other keys are ignored. The default `task` is the name of the file.

    The name is without its suffix: the default task of `sums.jsonl` is `sums`.

    Raises:
        UsageError: a file cannot be read, a line is not an example, or there are no examples. The message names the
            file and the line.
    """
    examples = [example for path in paths for example in _read_file(Path(path))]
    if not examples:
        raise UsageError(f"there are no examples in {', '.join(map(str, paths))}: each line must be {FORM}")
    return examples


def held_out_examples(examples: Sequence[Example]) -> np.ndarray:
    """Return which examples are held out: a tenth, by a hash of the inputs.

    Examples with equal inputs are held out together. If this selects no example or all examples, those with the
    smallest hash are held out instead.

    Raises:
        UsageError: all examples have the same inputs.
    """
    keys = np.array([_hash(example.inputs or example.targets) for example in examples], np.uint64)
    held_out = keys % HELD_OUT_ONE_IN == 0
    if not held_out.any() or held_out.all():
        held_out = keys == keys.min()
    if held_out.all():
        raise UsageError("all examples have the same inputs: give two different ones, one to train on and one held out")
    return held_out


def _read_file(path: Path) -> Iterator[Example]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}", path.stem)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give a file of JSON lines, each {FORM}") from error


def _parse(line: bytes, where: str, task: str) -> Example:
    try:
        found: Any = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        kind = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        raise UsageError(f"{where}: the line is not {kind}, but must be {FORM}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: the line is not a JSON object, but must be {FORM}")
    example = {"task": task, **{key: found[key] for key in ("inputs", "targets", "task") if key in found}}
    for key in ("inputs", "targets", "task"):
        if key not in example:
            raise UsageError(f"{where}: {key!r} is missing; the line must be {FORM}")
        if not isinstance(example[key], str) or (not example[key].isprintable() and not _encodable(example[key])):
            raise UsageError(f"{where}: {key!r} is not text, but must be a string of Unicode characters")
    if not example["targets"]:
        raise UsageError(f"{where}: 'targets' is empty, but must hold what the model learns to answer")
    return Example(**example)


def _encodable(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "ignore").decode() == text


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
