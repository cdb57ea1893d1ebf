"""Cutting of long documents into pieces, at places that depend on the text alone.

Documents of more than about `2 * size` characters are cut. A piece has `size` to `2 * size` characters; only the last
piece may be shorter or slightly longer. In this range, a piece may end at any blank line. Without blank lines it may
end at any line end, and without line ends at any space. Of these places, the one whose next words have the smallest
hash is chosen. Copies of a text are therefore cut at the same places, even if their beginnings differ, and
`near_duplicates` assigns their pieces to one split. This is content-defined chunking (Muthitacharoen, Chen & Mazieres
2001, section 3).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice

from ..near_duplicates import normalized

__all__ = ["cut", "piece_size"]

PIECE = 64 * 1024
"""Largest value of `size`, in characters."""

SMALLEST_PIECE = 1024
PIECES = 200
"""Approximate smallest number of pieces of a source. With so many, a tenth of the text can be held out."""

AHEAD = 96
"""Characters after a place that decide whether the text is cut there; `HASHED` bytes of their words are hashed."""

HASHED = 32
MOST_PLACES = 256
"""Largest number of places that are compared for one cut; it bounds the time."""

PLACES = (re.compile(r"\n(?:[ \t\r]*\n)+"), re.compile(r"\n"), re.compile(r" +"))
"""Kinds of places where a text may be cut, the best first."""


def piece_size(characters: int) -> int:
    """Return the size of the pieces of a source, from its number of characters."""
    return min(PIECE, max(SMALLEST_PIECE, characters // PIECES))


def cut(blocks: Iterable[str], size: int) -> Iterator[str]:
    """Cut a text into pieces. Joined, the pieces are the whole text. Memory holds at most one block and two pieces.

    Args:
        blocks: text in parts of any length.
        size: smallest number of characters of a piece; the last piece may be shorter.
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
