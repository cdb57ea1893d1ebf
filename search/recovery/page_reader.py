"""Rows of a damaged SQLite file, read page by page without SQLite, which refuses such a file.

Each page of a table's rows is read separately, so a damaged page costs only its own rows. A page in the write-ahead
log replaces the file's page if its checksum is right. Format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Row", "read_rows", "schema_version"]

Row = tuple[int, tuple[Any, ...]]
"""Row id and values of a row; a column that is the row id itself is None."""

_MAGIC = b"SQLite format 3\0"
_LEAF = 0x0D
"""First byte of a page with rows of a table."""

_NUMBERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Size of an integer in bytes, by its serial type."""


def schema_version(store: Path) -> int | None:
    """Return the schema version in the file's header; None if the header is damaged."""
    first = _pages(store).get(1, b"")
    return int.from_bytes(first[60:64], "big") if first.startswith(_MAGIC) else None


def read_rows(store: Path) -> Iterator[Row]:
    """Return the rows of all tables that can be read, in any order; a row may appear twice.

    Args:
        store: the SQLite file; its write-ahead log is next to it.
    """
    pages = _pages(store)
    for number, page in pages.items():
        start = 100 if number == 1 else 0
        if len(page) < start + 8 or page[start] != _LEAF:
            continue
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for place in range(cells):
            pointer = start + 8 + 2 * place
            try:
                yield _row(page, int.from_bytes(page[pointer : pointer + 2], "big"), pages)
            except (ValueError, IndexError, KeyError, struct.error):
                continue  # this cell is damaged, but others of the page may be whole


def _pages(store: Path) -> dict[int, bytes]:
    """Return the pages by number, from 1."""
    content = store.read_bytes()
    log = Path(f"{store}-wal")
    frames = log.read_bytes() if log.exists() else b""
    size = int.from_bytes(content[16:18], "big") if content.startswith(_MAGIC) else 0
    size = 65536 if size == 1 else size
    if size < 512 and len(frames) >= 32:
        size = int.from_bytes(frames[8:12], "big")
    if size < 512:
        size = 4096  # SQLite's default
    pages = {1 + place // size: content[place : place + size] for place in range(0, len(content), size)}
    return pages | _logged_pages(frames, size)


def _logged_pages(log: bytes, size: int) -> dict[int, bytes]:
    """Return the pages of the write-ahead log, up to the last transaction that is complete."""
    if len(log) < 32 or int.from_bytes(log[8:12], "big") != size:
        return {}
    order, salts, before = "<" if log[3] == 0x82 else ">", log[16:24], log[24:32]
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for start in range(32, len(log) - size - 23, 24 + size):
        header, page = log[start : start + 24], log[start + 24 : start + 24 + size]
        if header[8:16] != salts:
            break  # left over from an earlier use of the log
        # Each checksum continues the one before, so a damaged frame does not make the next one unreadable.
        if _checksum(header[:8] + page, before, order) == header[16:24]:
            pending[int.from_bytes(header[:4], "big")] = page
            if header[4:8] != bytes(4):
                committed |= pending
                pending = {}
        before = header[16:24]
    return committed


def _checksum(content: bytes, before: bytes, order: str) -> bytes:
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & 0xFFFFFFFF
        second = (second + words[place + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)


def _row(page: bytes, place: int, pages: dict[int, bytes]) -> Row:
    length, place = _varint(page, place)
    number, place = _varint(page, place)
    usable = len(page)
    local = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    payload = page[place : place + local]
    following = int.from_bytes(page[place + local : place + local + 4], "big")
    parts, missing = [payload], length - len(payload)
    while missing > 0:
        parts.append(pages[following][4 : 4 + missing])
        missing -= len(parts[-1])
        following = int.from_bytes(pages[following][:4], "big")
        if not parts[-1]:
            raise ValueError("an overflow page is short")
    return number, tuple(_values(b"".join(parts)))


def _values(payload: bytes) -> Iterator[Any]:
    end, place = _varint(payload, 0)
    kinds: list[int] = []
    while place < end:
        kind, place = _varint(payload, place)
        kinds.append(kind)
    if sum(map(_length, kinds)) != len(payload) - end:
        raise ValueError("the length of a record does not fit its columns")
    place = end
    for kind in kinds:
        part = payload[place : place + _length(kind)]
        place += len(part)
        if kind == 0:
            yield None
        elif kind in _NUMBERS:
            yield int.from_bytes(part, "big", signed=True)
        elif kind == 7:
            yield struct.unpack(">d", part)[0]
        elif kind in (8, 9):
            yield kind - 8
        else:
            yield part.decode() if kind % 2 else part


def _length(kind: int) -> int:
    if kind in (10, 11):
        raise ValueError("a reserved serial type")
    return (kind - 12) // 2 if kind >= 12 else 8 if kind == 7 else _NUMBERS.get(kind, 0)


def _varint(content: Sequence[int], place: int) -> tuple[int, int]:
    """Return an integer of 1 to 9 bytes, and the place after it."""
    value = 0
    for byte in range(9):
        part = content[place + byte]
        if byte == 8:
            return (value << 8) | part, place + 9
        value = (value << 7) | (part & 0x7F)
        if part < 0x80:
            return value, place + byte + 1
    raise AssertionError("unreachable")
