"""Sources of text: the name of a source gives a deterministic stream of documents.

Each kind of source is one row of `SOURCES`. `python-stdlib` is the standard library of the running Python: code,
docstrings and comments, on every machine and without a network. `text:PATH` is UTF-8 text of the user. To add a kind,
write a function from its argument to documents and add a row; all other modules see only `Document`s.
"""

from __future__ import annotations

import codecs
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...primitives.errors import UsageError

__all__ = ["SOURCES", "Document", "Source", "read_documents"]

CHUNK = 64 * 1024
"""Approximate characters of a document that is cut from a long file."""

SMALLEST_CHUNK = 1024
CHUNKS = 100
"""Approximate smallest number of documents of a single file. Shorter files are cut into smaller documents."""

LARGEST_DOCUMENT = 1024 * 1024
"""Bytes up to which a file of a folder is one document. Larger files are cut like a single file."""

SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
"""Folders of a Python installation that hold tests or installed packages."""

BLANK_LINE = re.compile(r"\n(?:[ \t\r]*\n)+")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs to one split as a whole; `name` tells where it came from."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of source.

    Attributes:
        usage: notation for users.
        takes_argument: whether an argument follows a colon.
        read: function of the argument (or an empty string) that returns documents, always in the same order. It
            raises UsageError at the call for faults that are visible without reading the text.
    """

    usage: str
    takes_argument: bool
    read: Callable[[str], Iterator[Document]]


def read_documents(source: str) -> Iterator[Document]:
    """Return the documents of a source, in the same order on every machine.

    Args:
        source: `python-stdlib` or `text:PATH`.

    Raises:
        UsageError: the source is unknown or has no readable text. Faults inside a file are raised during iteration.
    """
    name, colon, argument = source.partition(":")
    row = SOURCES.get(name)
    if row is None or bool(colon) != row.takes_argument or (row.takes_argument and not argument):
        usages = ", ".join([*(row.usage for row in SOURCES.values()), "tokens:PATH", "lm1b"]) + " or tfds:NAME"
        raise UsageError(f"data.source {source!r} does not exist: use {usages}")
    return row.read(argument)


def _standard_library(_: str) -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "os.py").is_file():
        raise UsageError(f"data.source python-stdlib finds no source code in {root}: use text:PATH instead")
    return _library_documents(root)


def _library_documents(root: Path) -> Iterator[Document]:
    for name, path in _walk(root, SKIPPED_FOLDERS):
        # These files differ between builds of the same Python version, which must give the same dataset.
        built = name.startswith(("_sysconfigdata", "config-"))
        text = _whole_text(path) if path.suffix == ".py" and not built else None
        if text is not None:
            yield Document(name, text)


def _user_text(argument: str) -> Iterator[Document]:
    path = Path(argument).expanduser()
    try:
        if path.is_dir():
            return _folder_documents(path)
        if path.is_file():
            return _file_documents(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    raise UsageError(f"data.source text:{argument} is not a file or folder: give the path of UTF-8 text")


def _file_documents(path: Path) -> Iterator[Document]:
    try:
        if not _is_text(path):
            raise UsageError(f"data.source text:{path} is not UTF-8 text: convert the file to UTF-8")
        blank = True
        for document in _cut(path, path.name):
            blank = blank and not document.text.strip()
            yield document
    except OSError as error:
        raise _unreadable(path, error) from error
    if blank:
        raise UsageError(f"data.source text:{path} has no text: give a file with text")


def _folder_documents(root: Path) -> Iterator[Document]:
    found = False
    for name, path in _walk(root, frozenset({"__pycache__"})):
        try:
            for document in _documents_of_file(name, path):
                found = found or bool(document.text.strip())
                yield document
        except OSError as error:
            raise _unreadable(path, error) from error
    if not found:
        raise UsageError(f"data.source text:{root} has no UTF-8 text: give a folder of text files")


def _documents_of_file(name: str, path: Path) -> Iterator[Document]:
    if path.stat().st_size > LARGEST_DOCUMENT:
        if _is_text(path):
            yield from _cut(path, name)
    elif (text := _whole_text(path)) is not None:
        yield Document(name, text)


def _walk(root: Path, skipped: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield the relative names and paths of files below `root`, without hidden files and the folders `skipped`."""
    for folder, subfolders, files in os.walk(root, onerror=_raise_unreadable):
        subfolders[:] = sorted(name for name in subfolders if name not in skipped and not name.startswith("."))
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
        raise _unreadable(path, error) from error


def _is_text(path: Path) -> bool:
    """Whether a whole file is UTF-8 text, in constant memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(LARGEST_DOCUMENT):
                if b"\0" in block:
                    return False
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _cut(path: Path, name: str) -> Iterator[Document]:
    """Cut a file into documents, at blank lines if possible. The documents joined are the whole file."""
    size = min(CHUNK, max(SMALLEST_CHUNK, path.stat().st_size // CHUNKS))
    number, rest = 0, ""
    with path.open(encoding="utf-8", newline="") as file:
        while block := file.read(LARGEST_DOCUMENT):
            rest, start = rest + block, 0
            while len(rest) - start >= 2 * size:
                end = _cut_point(rest, start + size, start + 2 * size)
                yield Document(f"{name}#{number}", rest[start:end])
                number, start = number + 1, end
            rest = rest[start:]
    if rest:
        yield Document(f"{name}#{number}", rest)


def _cut_point(text: str, low: int, high: int) -> int:
    """Return a cut between `low` and `high`: after the first blank line, else after the last line, else `high`."""
    blank = BLANK_LINE.search(text, low, high)
    return blank.end() if blank else text.rfind("\n", low, high) + 1 or high


def _raise_unreadable(error: OSError) -> None:
    raise _unreadable(Path(error.filename or "?"), error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be read as data ({error.strerror}): make it readable or remove it from data.source"
    )


SOURCES: dict[str, Source] = {
    "python-stdlib": Source("python-stdlib", False, _standard_library),
    "text": Source("text:PATH", True, _user_text),
}
"""All kinds of sources, by the word before the colon."""
