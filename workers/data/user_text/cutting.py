"""Cutting of long documents, at places that the text itself decides.

A document is cut if it is longer than two pieces. A piece has `size` to `2 * size` characters. The cut is at one of the
blank lines in that range, else at a line end, else at a space: at the one whose next words have the smallest hash.
Copies of a text are therefore cut at the same places, also after a different beginning, and `near_duplicates` keeps
their pieces in one split. Such cuts are content-defined chunking (Muthitacharoen, Chen & Mazieres 2001, section 3).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice

from ..near_duplicates import normalized

__all__ = ["cut", "piece_size"]

PIECE = 64 * 1024
"""Largest size of a piece, in characters."""

SMALLEST_PIECE = 1024
PIECES = 200
"""Approximate smallest number of pieces of a source. Their documents are then small enough to hold out a tenth."""

AHEAD = 96
"""Characters after a place that decide whether it is cut; `HASHED` bytes of their words are hashed."""

HASHED = 32
MOST_PLACES = 256
"""Places that are compared for one cut, which bounds the time."""

PLACES = (re.compile(r"\n(?:[ \t\r]*\n)+"), re.compile(r"\n"), re.compile(r" +"))
"""Places where a text may be cut, the best first."""


def piece_size(characters: int) -> int:
    """Return the size of the pieces of a source, from its number of characters."""
    return min(PIECE, max(SMALLEST_PIECE, characters // PIECES))


def cut(blocks: Iterable[str], size: int) -> Iterator[str]:
    """Cut a text into pieces, in memory for one block and two pieces. The pieces joined are the whole text.

    Args:
        blocks: text in parts of any length.
        size: smallest number of characters of all pieces but the last.
    """
    rest = ""
    for block in blocks:
        rest, start = rest + block, 0
        while len(rest) - start >= 2 * size + AHEAD:
            end = _cut_place(rest, start + size, start + 2 * size)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _cut_place(text: str, low: int, high: int) -> int:
    for pattern in PLACES:
        ends = [found.end() for found in islice(pattern.finditer(text, low, high), MOST_PLACES)]
        if ends:
            return min(ends, key=lambda end: _hash(text[end : end + AHEAD]))
    return high


def _hash(text: str) -> int:
    return zlib.crc32(normalized(text.encode("utf-8"))[:HASHED])
