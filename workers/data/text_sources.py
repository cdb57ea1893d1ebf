"""Sources of text. The name of a source selects documents, always the same documents in the same order.

Each kind of source is one row of `SOURCES`. `python-stdlib` is the standard library of the running Python: code,
docstrings and comments, which exist on every machine and need no network. `text:PATH` is text of the user (see
`user_text`). To add a kind of source, write a function that turns its argument into `Documents`, and add a row. Other
modules use only the rows.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...primitives.errors import UsageError
from .user_text.documents import Document, Documents, LeftOut
from .user_text.text_files import open_text_files, raise_unreadable, unreadable

__all__ = ["SOURCES", "Source", "read_documents"]

SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
"""Folders of a Python installation that hold tests or installed packages."""


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of source.

    Attributes:
        usage: notation for users.
        takes_argument: whether an argument follows a colon.
        open: function of the argument (or an empty string) that returns the documents. The call raises UsageError for
            faults that can be found without reading the text.
    """

    usage: str
    takes_argument: bool
    open: Callable[[str], Documents]


def read_documents(source: str) -> Documents:
    """Return the documents of a source, in the same order on every machine. Iteration reads them.

    Args:
        source: `python-stdlib` or `text:PATH[?field=NAME]`.

    Raises:
        UsageError: the source is unknown or does not exist. Faults inside a file are raised during iteration.
    """
    name, colon, argument = source.partition(":")
    row = SOURCES.get(name)
    if row is None or bool(colon) != row.takes_argument or (row.takes_argument and not argument):
        usages = ", ".join([*(row.usage for row in SOURCES.values()), "tokens:PATH", "lm1b"]) + " or tfds:NAME"
        raise UsageError(f"data.source {source!r} does not exist: use {usages}")
    return row.open(argument)


@dataclass(frozen=True, slots=True)
class LibraryFiles:
    """The Python files of the standard library, each a document."""

    root: Path
    left_out: tuple[LeftOut, ...] = ()

    def __iter__(self) -> Iterator[Document]:
        for name, path in _walk(self.root):
            # These files differ between builds of one Python version, but all builds must give the same dataset.
            differs = name.startswith(("_sysconfigdata", "config-"))
            text = _whole_text(path) if path.suffix == ".py" and not differs else None
            if text is not None:
                yield Document(name, text)


def _standard_library(_: str) -> LibraryFiles:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "os.py").is_file():
        raise UsageError(f"data.source python-stdlib finds no source code in {root}: use text:PATH instead")
    return LibraryFiles(root)


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the relative names and paths of files below `root`, without hidden files and `SKIPPED_FOLDERS`."""
    for folder, subfolders, files in os.walk(root, onerror=raise_unreadable):
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            if not file.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _whole_text(path: Path) -> str | None:
    """Return the text of a file, or None if it is binary."""
    try:
        content = path.read_bytes()
        return None if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error


SOURCES: dict[str, Source] = {
    "python-stdlib": Source("python-stdlib", False, _standard_library),
    "text": Source("text:PATH", True, open_text_files),
}
"""All kinds of sources, by the word before the colon."""
