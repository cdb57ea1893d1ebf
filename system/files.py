"""Files that stay valid if the process is killed: atomic writes, append-only files with a journal, file hashes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..primitives.errors import UsageError
from .signals import raise_if_interrupted

__all__ = [
    "STANDARD_OUTPUT",
    "Journal",
    "file_sha256",
    "replace_folder",
    "replacement",
    "write_atomically",
    "write_output",
]

STANDARD_OUTPUT = Path("-")
"""Path by which a user names standard output, as in `-o -`."""


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; its file replaces `path` if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 file completely, or leave the former file unchanged."""
    with replacement(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_output(path: Path, text: str, remedy: str = "choose another place with -o") -> None:
    """Write a text to the file that the user named, atomically, or to standard output.

    Raises:
        UsageError: the file cannot be written; the message ends with the remedy.
        KeyboardInterrupt: a signal has asked the command to stop.
    """
    raise_if_interrupted()
    if path == STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def replace_folder(new: Path, target: Path) -> None:
    """Rename the folder `new` to `target`, and delete the former `target`; on failure, restore the former one."""
    former = new.with_name(f"{new.name}.{secrets.token_hex(4)}.former")
    with suppress(FileNotFoundError):
        target.rename(former)
    try:
        new.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    if former.is_dir():
        shutil.rmtree(former, ignore_errors=True)
    else:
        former.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Journal:
    """Append-only files of one folder, and a JSON file with their valid lengths. A context manager.

    A kill at any time loses at most what was appended after the last `commit`.
    """

    def __init__(self, folder: Path, name: str, files: Iterable[str]):
        """Open the files, and cut off content that was not committed.

        Args:
            folder: existing folder of the files.
            name: name of the JSON file.
            files: names of the append-only files.
        """
        self._path = folder / name
        committed = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else None
        if committed and any(_size(folder / file) < length for file, length in committed["lengths"].items()):
            committed = None  # a file is missing or too short, so all of them start empty
        self.state: dict[str, Any] = committed["state"] if committed else {}
        """The last committed state; empty at first."""
        self._files = {}
        for file in files:
            handle = (folder / file).open("ab")
            handle.truncate(committed["lengths"][file] if committed else 0)
            handle.seek(0, os.SEEK_END)
            self._files[file] = handle

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._files.values():
            handle.close()

    def append(self, file: str, content: bytes) -> None:
        """Append to a file."""
        self._files[file].write(content)

    def commit(self, state: dict[str, Any]) -> None:
        """Make all that was appended so far permanent, together with `state`."""
        for handle in self._files.values():
            handle.flush()
            os.fsync(handle.fileno())
        lengths = {file: handle.tell() for file, handle in self._files.items()}
        write_atomically(self._path, json.dumps({"state": state, "lengths": lengths}))
        self.state = state


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
