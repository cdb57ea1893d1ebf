"""Text files of the user: which files of a folder are read, which are left out, and the documents in them.

All files are read once before the first document is yielded. This finds the files that are not text, and the total
length, which decides the size of the pieces into which long documents are cut. Links to files and folders are followed.
Each folder is read only once, so links may form circles.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ....primitives.errors import UsageError
from ....system.user_folders import user_path
from .cutting import cut, piece_size
from .documents import Document, LeftOut, LeftOutTally, format_left_out
from .formats import NotTextError, has_records, read_records

__all__ = ["TextFiles", "open_text_files", "raise_unreadable", "unreadable"]

OPTION = "field="


def open_text_files(argument: str) -> TextFiles:
    """Return the text files at `PATH` or `PATH?field=NAME`, without reading them.

    Raises:
        UsageError: the path does not exist, or the option is not `field=NAME`.
    """
    name, mark, option = argument.rpartition("?")
    whole = user_path(argument)
    try:
        if not mark or whole.exists():
            path, field = whole, ""
        else:
            path, field = user_path(name), option.removeprefix(OPTION)
            if not option.startswith(OPTION) or not field:
                raise UsageError(f"data.source text:{argument} must end with ?field=NAME, or with the name of the file")
        if path.is_dir() or path.is_file():
            return TextFiles(path, field)
    except OSError as error:
        raise unreadable(whole, error) from error
    raise UsageError(
        f"data.source text:{argument} is not a file or folder: give the path of UTF-8 text, JSON lines or Parquet"
    )


@dataclass(frozen=True)
class TextFiles:
    """A file, or all files of a folder.

    Attributes:
        path: file or folder.
        field: field that holds the text in JSON lines and Parquet, as the user gave it; if empty, the field `text`.
    """

    path: Path
    field: str

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files and records that were not read, by reason. The first use reads all files."""
        return self._survey.left_out

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            UsageError: a file cannot be read, or there is no text.
        """
        size = piece_size(self._survey.characters)
        for name, path in self._survey.files:
            try:
                for place, blocks in self._read(path, name):
                    for piece in cut(blocks or (), size):
                        yield Document(place, piece)
            except NotTextError:
                raise UsageError(f"{path} changed while it was read: run again when the file is complete") from None
            except OSError as error:
                raise unreadable(path, error) from error

    def _read(self, path: Path, name: str) -> Iterator[tuple[str, Iterable[str] | None]]:
        return read_records(path, name, self.field or "text")

    def _count(self, path: Path, name: str, tally: LeftOutTally) -> tuple[int, bool]:
        """Return the number of characters of a file, and whether they are all blank."""
        characters, is_blank = 0, True
        for place, blocks in self._read(path, name):
            if blocks is None:
                tally.add(f"without text (the field {self.field or 'text'!r} is null)", place)
            for block in blocks or ():
                characters, is_blank = characters + len(block), is_blank and not block.strip()
        return characters, is_blank

    @cached_property
    def _survey(self) -> _Survey:
        tally, used, any_records = LeftOutTally(), list[tuple[str, Path]](), False
        characters, has_text = 0, False
        for name, path in _files(self.path, tally) if self.path.is_dir() else [(self.path.name, self.path)]:
            try:
                any_records = any_records or has_records(path, self.field or "text")
                found, is_blank = self._count(path, name, tally)
                used.append((name, path))
                characters, has_text = characters + found, has_text or not is_blank
            except NotTextError as error:
                if path == self.path:
                    found = error.place or "it has a zero byte"
                    raise UsageError(
                        f"data.source text:{path} is not UTF-8 text ({found}): convert the file to UTF-8"
                    ) from None
                tally.add(error.reason, f"{name}, {error.place}" if error.place else name, path.stat().st_size)
            except OSError as error:
                raise unreadable(path, error) from error
        left_out = tally.total()
        if not has_text:
            why = f" ({format_left_out(left_out)})" if left_out else ""
            raise UsageError(f"data.source text:{self.path} has no UTF-8 text{why}: give a file or folder of text")
        if self.field and not any_records:
            raise UsageError(
                f"data.source text:{self.path} has neither JSON lines nor Parquet: leave out ?field={self.field}"
            )
        return _Survey(tuple(used), characters, left_out)


@dataclass(frozen=True, slots=True)
class _Survey:
    files: tuple[tuple[str, Path], ...]
    characters: int
    left_out: tuple[LeftOut, ...]


def _files(root: Path, tally: LeftOutTally) -> Iterator[tuple[str, Path]]:
    """Yield the relative names and paths of the visible files below a folder, in order."""
    seen = {_identity(root)}
    for folder, subfolders, files in os.walk(root, onerror=raise_unreadable, followlinks=True):
        place, entered = Path(folder), []
        for name in sorted(subfolders):
            path = place / name
            shown = f"{path.relative_to(root).as_posix()}/"
            if name.startswith(".") or name == "__pycache__":
                tally.add("hidden", shown, *_extent(path))
            elif (identity := _identity(path)) in seen:
                tally.add("linked folder that is read elsewhere", shown)
            else:
                seen.add(identity)
                entered.append(name)
        subfolders[:] = entered
        for name in sorted(files):
            path = place / name
            shown = path.relative_to(root).as_posix()
            if not path.is_file():
                tally.add("neither file nor folder", shown)
            elif name.startswith("."):
                tally.add("hidden", shown, path.stat().st_size)
            else:
                yield shown, path


def _extent(folder: Path) -> tuple[int, int]:
    """Return the bytes and the number of the files below a folder."""
    size, count = 0, 0
    for place, _, files in os.walk(folder):
        for name in files:
            facts = os.lstat(os.path.join(place, name))
            size, count = size + (facts.st_size if stat.S_ISREG(facts.st_mode) else 0), count + 1
    return size, count


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def raise_unreadable(error: OSError) -> None:
    """Raise the error for a folder that `os.walk` cannot read."""
    raise unreadable(Path(error.filename or "?"), error) from error


def unreadable(path: Path, error: OSError) -> UsageError:
    """Return the error for a file or folder that cannot be read."""
    return UsageError(
        f"{path} cannot be read as data ({error.strerror}): make it readable or remove it from data.source"
    )
