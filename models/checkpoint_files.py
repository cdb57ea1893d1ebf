"""Folder of arrays in two formats, with a tokenizer and a description: written atomically, and read with checks.

    model.json          description: the writer's entries, versions, and a hash of every other file
    model.safetensors   arrays by their keys joined with dots
    checkpoint/         the same arrays as an Orbax checkpoint
    tokenizer.json      in the format of the `tokenizers` library

Either format is enough to read the arrays. Neither contains code, and nothing is unpickled.
"""

from __future__ import annotations

import importlib.metadata
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..primitives.errors import UsageError
from ..system.files import file_sha256, replace_folder
from ..system.signals import raise_if_interrupted

__all__ = [
    "DESCRIPTION",
    "FileFormat",
    "Tree",
    "damaged_file",
    "flatten",
    "read_arrays",
    "read_description",
    "read_tokenizer",
    "write_weights_folder",
]

FORMAT = 1
"""Version of the folder's format; it is incremented when the format changes."""

DESCRIPTION, SAFETENSORS, CHECKPOINT, TOKENIZER = "model.json", "model.safetensors", "checkpoint", "tokenizer.json"

FileFormat = Literal["safetensors", "orbax"]
Tree = dict[str, Any]
"""Arrays in nested dicts."""


def write_weights_folder(
    folder: Path,
    tree: Tree,
    tokenizer: str,
    description: Mapping[str, Any],
    *,
    texts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write arrays in both formats, a tokenizer, a description and other `texts` by file name.

    Either the whole folder is written or nothing.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists; replace it with --force, or move it away first")
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        _write_files(temporary, tree, tokenizer, description, texts or {})
        raise_if_interrupted()
        replace_folder(temporary, folder)
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error.strerror or error}); choose a writable folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of a folder.

    Raises:
        UsageError: the description is missing or damaged, or has another format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UsageError(f"{folder} has no weights (no {DESCRIPTION}); `primer-search train` makes them")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged_file(path, "not a JSON text") from error
    if not isinstance(description, dict) or not isinstance(description.get("files"), dict):
        raise damaged_file(path, "not a description of weights")
    if description.get("format") != FORMAT:
        raise damaged_file(path, f"format is {description.get('format')!r}, but must be {FORMAT}")
    return description


def read_tokenizer(folder: Path, description: Mapping[str, Any]) -> str:
    """Return the tokenizer of a folder as JSON text.

    Raises:
        UsageError: the tokenizer is missing or damaged.
    """
    _check_hashes(folder, description["files"], TOKENIZER)
    return (folder / TOKENIZER).read_text(encoding="utf-8")


def read_arrays(
    folder: Path, description: Mapping[str, Any], file_format: FileFormat | None = None
) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the arrays of a folder by their keys joined with dots, and the file or folder that was read.

    Without `file_format`, safetensors is read if it exists, else Orbax.

    Raises:
        UsageError: a file is missing or damaged.
    """
    file_format = file_format or ("safetensors" if (folder / SAFETENSORS).exists() else "orbax")
    source = folder / (SAFETENSORS if file_format == "safetensors" else CHECKPOINT)
    if not source.exists():
        raise UsageError(f"{source} is missing; restore it, or train the candidate again")
    _check_hashes(folder, description["files"], source.name)
    return source, flatten(_read_safetensors(source) if file_format == "safetensors" else _read_orbax(source))


def flatten(tree: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of a nested dict by their keys joined with dots.

    >>> sorted(flatten({"a": {"b": np.zeros(1), "c.d": np.ones(1)}, "e": np.ones(2)}))
    ['a.b', 'a.c.d', 'e']
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(dict(value), f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = np.asarray(value)
    return flat


def damaged_file(path: Path, reason: str) -> UsageError:
    """Return the error for a damaged file."""
    return UsageError(f"{path} is damaged ({' '.join(reason.split())}); restore it, or train the candidate again")


# --- writing ------------------------------------------------------------------------------------------------------


def _write_files(
    folder: Path, tree: Tree, tokenizer: str, description: Mapping[str, Any], texts: Mapping[str, str]
) -> None:
    from orbax.checkpoint import v1 as orbax
    from safetensors.numpy import save

    not_empty = {name: value for name, value in tree.items() if not isinstance(value, Mapping) or value}
    orbax.save(str(folder.absolute() / CHECKPOINT), not_empty)  # a program without parameters has an empty dict
    contiguous = {name: np.ascontiguousarray(array) for name, array in flatten(tree).items()}
    (folder / SAFETENSORS).write_bytes(save(contiguous, metadata={"format": "flax"}))
    for name, text in {TOKENIZER: tokenizer, **texts}.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    versions = {name: importlib.metadata.version(name) for name in ("primer-search", "jax", "flax", "orbax-checkpoint")}
    description = {"format": FORMAT, **description, "versions": versions, "files": files}
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


# --- reading ------------------------------------------------------------------------------------------------------


def _check_hashes(folder: Path, hashes: Mapping[str, Any], name: str) -> None:
    """Check that a file, or every file of a folder, has the same hash as when it was written."""
    expected = {path: value for path, value in hashes.items() if path == name or path.startswith(f"{name}/")}
    if not expected:
        raise damaged_file(folder / DESCRIPTION, f"no hash of {name}")
    for path, value in expected.items():
        try:
            found = file_sha256(folder / path)
        except OSError as error:
            raise UsageError(f"{folder / path} is missing or unreadable; restore it, or train again") from error
        if found != value:
            raise damaged_file(folder / path, "its content has changed")


def _read_safetensors(path: Path) -> Tree:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise damaged_file(path, str(error)) from error


def _read_orbax(path: Path) -> Tree:
    from orbax.checkpoint import v1 as orbax

    try:
        return orbax.load(str(path.absolute()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise damaged_file(path, f"Orbax: {str(error)[:200]}") from error
