"""Where text comes from: a source's name becomes a deterministic stream of documents.

A source is one row of `SOURCES`. `python-stdlib` is real text on every machine, without a network: code, docstrings and
comments of the running Python's own standard library. `text:PATH` is the user's own UTF-8 text. To add a source, write
a function from its argument to documents and add its row; everything after this module only sees `Document`s.
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
"""Characters of a document cut from a long file, about; shorter files are cut finer, so that there are `PIECES`."""

CHUNK_LEAST = 1024
PIECES = 100
"""A single file is cut into about so many documents at least: splits by document need documents."""

WHOLE = 1024 * 1024
"""Bytes up to which a file of a folder is one document; above, it is cut like a single file."""

NOT_LIBRARY = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
"""Folders of a Python installation that hold tests or what users installed."""

BLANK_LINE = re.compile(r"\n(?:[ \t\r]*\n)+")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs to one split as a whole; `name` tells people where it came from."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of source.

    Attributes:
        usage: how it is written.
        takes_argument: whether text follows a colon.
        read: from the argument (empty without one) to documents, always in the same order. Raises UsageError at once
            for what it can see at once.
    """

    usage: str
    takes_argument: bool
    read: Callable[[str], Iterator[Document]]


def read_documents(source: str) -> Iterator[Document]:
    """The documents of a source, in an order that does not depend on the machine.

    Args:
        source: `python-stdlib` or `text:PATH`.

    Raises:
        UsageError: the source is unknown or holds no readable text. Faults deep in a file are raised on the way.
    """
    name, colon, argument = source.partition(":")
    row = SOURCES.get(name)
    if row is None or bool(colon) != row.takes_argument or (row.takes_argument and not argument):
        usages = ", ".join([*(row.usage for row in SOURCES.values()), "lm1b"]) + " or tfds:NAME"
        raise UsageError(f"data.source is {source!r}, which is no source of text: use {usages}.")
    return row.read(argument)


def _standard_library(_: str) -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "os.py").is_file():
        raise UsageError(f"data.source python-stdlib finds no library sources in {root}: use text:PATH instead.")
    return _library_documents(root)


def _library_documents(root: Path) -> Iterator[Document]:
    for name, path in _walk(root, NOT_LIBRARY):
        # Generated when Python is built: with them, equal Pythons on two machines would give two datasets.
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
    raise UsageError(f"data.source text:{argument} names no file or folder: give the path of UTF-8 text.")


def _file_documents(path: Path) -> Iterator[Document]:
    try:
        if not _is_text(path):
            raise UsageError(f"data.source text:{path} is not UTF-8 text: convert the file to UTF-8 first.")
        blank = True
        for document in _cut(path, path.name):
            blank = blank and not document.text.strip()
            yield document
    except OSError as error:
        raise _unreadable(path, error) from error
    if blank:
        raise UsageError(f"data.source text:{path} is empty: give a file that holds text.")


def _folder_documents(root: Path) -> Iterator[Document]:
    found = False
    for name, path in _walk(root, frozenset({"__pycache__"})):
        try:
            if path.stat().st_size <= WHOLE:
                text = _whole_text(path)
                parts = iter(()) if text is None else iter((Document(name, text),))
            else:
                parts = _cut(path, name) if _is_text(path) else iter(())
            for document in parts:
                found = found or bool(document.text.strip())
                yield document
        except OSError as error:
            raise _unreadable(path, error) from error
    if not found:
        raise UsageError(f"data.source text:{root} holds no UTF-8 text: give a folder of text files.")


def _walk(root: Path, leave_out: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Regular files below `root` with their relative names; hidden ones and the folders in `leave_out` left out."""
    for folder, subfolders, files in os.walk(root, onerror=_raise_unreadable):
        subfolders[:] = sorted(name for name in subfolders if name not in leave_out and not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            if not file.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _whole_text(path: Path) -> str | None:
    """The text of a file, or None if it is binary."""
    try:
        content = path.read_bytes()
        return None if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_text(path: Path) -> bool:
    """Whether all of a file of any size decodes, in constant memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(WHOLE):
                if b"\0" in block:
                    return False
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _cut(path: Path, name: str) -> Iterator[Document]:
    """Cut a file into documents, at blank lines where it has them; their texts joined are the file's."""
    size = min(CHUNK, max(CHUNK_LEAST, path.stat().st_size // PIECES))
    number, rest = 0, ""
    with path.open(encoding="utf-8", newline="") as file:
        while block := file.read(WHOLE):
            rest, start = rest + block, 0
            while len(rest) - start >= 2 * size:
                end = _cut_point(rest, start + size, start + 2 * size)
                yield Document(f"{name}#{number}", rest[start:end])
                number, start = number + 1, end
            rest = rest[start:]
    if rest:
        yield Document(f"{name}#{number}", rest)


def _cut_point(text: str, low: int, high: int) -> int:
    """Where to cut between `low` and `high`: after the first blank line, else the last line, else at `high`."""
    blank = BLANK_LINE.search(text, low, high)
    return blank.end() if blank else text.rfind("\n", low, high) + 1 or high


def _raise_unreadable(error: OSError) -> None:
    raise _unreadable(Path(error.filename or "?"), error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read as data ({error.strerror}): make it readable or leave it out.")


SOURCES: dict[str, Source] = {
    "python-stdlib": Source("python-stdlib", False, _standard_library),
    "text": Source("text:PATH", True, _user_text),
}
"""Every kind of source, by the word before the colon."""
