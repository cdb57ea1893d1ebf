"""Formats of text files: UTF-8 text, JSON lines and Parquet. Text and JSON lines may be compressed.

The file name decides the format. `.gz`, `.bz2`, `.xz` and `.zst` are decompressed. `.jsonl` and `.ndjson` are JSON
lines, and so is a `.json` file whose first line is an object with the text field. `.parquet` is Parquet. Other files
are plain text. Files are streamed: memory holds a block of text, a line or some rows. A small file that expands to a
huge one is refused (see `MOST_EXPANSION`).
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ....primitives.errors import UsageError

__all__ = ["MOST_EXPANSION", "NotTextError", "has_records", "read_records"]

BLOCK = 1024 * 1024
"""Bytes that are read at once."""

LONGEST_LINE = 64 * 1024 * 1024
"""Largest number of bytes in a JSON line."""

MOST_EXPANSION = 200
"""Largest ratio of text to its compressed file; `FREE_BYTES` of text are always allowed. Usual text has 3 to 20."""

FREE_BYTES = 64 * 1024 * 1024
ROW_BYTES = 8 * 1024 * 1024
"""Approximate bytes of Parquet rows in memory."""

DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
SURROGATE = re.compile("[\ud800-\udfff]")

Records = Iterator[tuple[str, Iterable[str] | None]]
"""Place of each record, and its text in blocks; None instead of a text that is null."""


class NotTextError(Exception):
    """A file is not UTF-8 text.

    Attributes:
        reason: `binary` or `not UTF-8`.
        place: the first wrong byte and where it is; empty for a binary file.
    """

    def __init__(self, reason: str, place: str = ""):
        super().__init__(reason, place)
        self.reason, self.place = reason, place


def has_records(path: Path, field: str) -> bool:
    """Return whether a file holds records with fields, rather than one text."""
    kind = _kind(path)
    return kind in (".jsonl", ".ndjson", ".parquet") or (kind == ".json" and _starts_with_record(path, field))


def read_records(path: Path, name: str, field: str) -> Records:
    """Yield the texts of a file: one text for a plain text file, else one for each line or row.

    Args:
        path: file.
        name: name of the file, for messages and places.
        field: field that holds the text, in a file with records.

    Raises:
        NotTextError: a file without records is not UTF-8 text.
        UsageError: the file is damaged, a record has no such field, or the file expands too much.
        OSError: the file cannot be read.
    """
    if not has_records(path, field):
        yield name, _decoded(_blocks(path, name))
    elif _kind(path) == ".parquet":
        yield from _parquet_rows(path, name, field)
    else:
        yield from _json_lines(_blocks(path, name), name, field)


def _kind(path: Path) -> str:
    name = path.name.lower()
    for ending in DECOMPRESSORS:
        name = name.removesuffix(ending)
    return Path(name).suffix


def _open_zst(file: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")


DECOMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zst,
    ".zstd": _open_zst,
}


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file."""
    decompress = DECOMPRESSORS.get(path.suffix.lower())
    with path.open("rb") as file:
        if decompress is None:
            while block := file.read(BLOCK):
                yield block
            return
        expansion, line = _Expansion(path, name), 1
        try:
            with decompress(file) as stream:
                while block := stream.read1(BLOCK):
                    expansion.add(len(block))
                    line += block.count(b"\n")
                    yield block
        except DAMAGE as error:
            raise UsageError(f"{name} is damaged in line {line:,} or after it ({error}): get the file again") from error


class _Expansion:
    """Limit on the bytes of text that a file expands to."""

    def __init__(self, path: Path, name: str):
        self._name, self._left = name, max(FREE_BYTES, MOST_EXPANSION * path.stat().st_size)

    def add(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UsageError(
                f"{self._name} expands to more than {MOST_EXPANSION} times its size: remove it, or unpack it yourself"
            )


def _decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    for block in chain(blocks, [b""]):
        if b"\0" in block:
            raise NotTextError("binary")
        begun = decoder.getstate()[0]
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            content, at = begun + block, error.start
            line += content.count(b"\n", 0, at)
            place = f"byte 0x{content[at]:02x} at offset {offset - len(begun) + at:,}, line {line:,}"
            raise NotTextError("not UTF-8", place) from None
        offset, line = offset + len(block), line + text.count("\n")
        if text:
            yield text


def _lines(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    parts: list[bytes] = []
    size, number = 0, 0
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for part in whole:
            number += 1
            yield b"".join([*parts, part])
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
        if size > LONGEST_LINE:
            raise UsageError(f"{name} line {number + 1:,} is longer than {LONGEST_LINE:,} bytes: split or remove it")
    if size:
        yield b"".join(parts)


def _starts_with_record(path: Path, field: str) -> bool:
    try:
        line = next((each for each in _lines(_blocks(path, path.name), path.name) if each.strip()), b"")
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # also a UsageError: the file is one long line, or damaged
        return False
    return isinstance(record, dict) and isinstance(record.get(field), str)


def _json_lines(blocks: Iterable[bytes], name: str, field: str) -> Records:
    for number, line in enumerate(_lines(blocks, name), 1):
        if not line.strip():
            continue
        place = f"{name} line {number:,}"
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place} is not JSON ({error}): repair or remove the line") from None
        if not isinstance(record, dict):
            raise UsageError(f"{place} is not a JSON object: each line must be one, with the text in a field")
        if field not in record:
            raise _lacks_field(place, field, record)
        yield place, _checked(record[field], place, field)


def _parquet_rows(path: Path, name: str, field: str) -> Records:
    import pyarrow
    from pyarrow import parquet, types

    row, expansion = 0, _Expansion(path, name)
    with path.open("rb") as file:
        try:
            found = parquet.ParquetFile(file)
            if field not in found.schema_arrow.names:
                raise _lacks_field(name, field, found.schema_arrow.names)
            kind = found.schema_arrow.field(field).type
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
                raise UsageError(f"{name} has {kind} in its column {field!r}: name a column of text as ?field=NAME")
            groups = [found.metadata.row_group(number) for number in range(found.metadata.num_row_groups)]
            row_bytes = sum(each.total_byte_size for each in groups) // max(1, found.metadata.num_rows)
            rows = min(4096, max(1, ROW_BYTES // max(1, row_bytes)))
            for batch in found.iter_batches(rows, columns=[field], use_threads=False):
                for value in batch.column(0).to_pylist():
                    row += 1
                    expansion.add(len(value or ""))
                    yield f"{name} row {row:,}", _checked(value, f"{name} row {row:,}", field)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            why = str(error).splitlines()[0]
            raise UsageError(f"{name} is damaged after row {row:,} ({why}): get the file again") from error


def _checked(value: Any, place: str, field: str) -> Iterable[str] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(
            f"{place} has {type(value).__name__}, not text, in the field {field!r}: correct it or remove the line"
        )
    return (SURROGATE.sub("\ufffd", value),)  # JSON can hold half of a surrogate pair; UTF-8 cannot


def _lacks_field(place: str, field: str, found: Iterable[str]) -> UsageError:
    names = ", ".join(map(repr, found)) or "none"
    return UsageError(f"{place} has no field {field!r} (it has {names}): name the field as text:PATH?field=NAME")
