"""Files that grow together, and of which a kill at any time loses at most what came after the last `commit`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["Journal", "write_atomically"]


class Journal:
    """Append-only files in a folder, with a JSON object that says how far they are valid. A context manager."""

    def __init__(self, folder: Path, name: str, files: Iterable[str]):
        """Take up what was committed, if anything was.

        Args:
            folder: exists.
            name: of the journal's own file.
            files: names of the files that grow.
        """
        self._path = folder / name
        committed = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else None
        if committed and any(_size(folder / file) < length for file, length in committed["lengths"].items()):
            committed = None  # who deletes one of the files gets all of them anew
        self.state: dict[str, Any] = committed["state"] if committed else {}
        """What was last committed; empty at first."""
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
        """Add to the end of a file."""
        self._files[file].write(content)

    def commit(self, state: dict[str, Any]) -> None:
        """Make all that was appended survive a kill, together with `state`."""
        for handle in self._files.values():
            handle.flush()
            os.fsync(handle.fileno())
        lengths = {file: handle.tell() for file, handle in self._files.items()}
        write_atomically(self._path, json.dumps({"state": state, "lengths": lengths}))
        self.state = state


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def write_atomically(path: Path, text: str) -> None:
    """Write a file such that it is there as a whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
