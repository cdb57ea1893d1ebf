"""Detection of near-duplicate documents in one pass over the text, so that copies of a text get the same split.

Every document has a key: the hash of its normalized text, without case (of ASCII letters), punctuation and spacing (of
ASCII and typography). Documents with the same key are copies. Longer documents also have a sketch: MinHash (Broder
1997) of runs of 16 bytes of the normalized text, in 8 bands of 6 rows. Documents that share a band count as copies, and
so do documents that are connected through others. All copies get one label, their smallest key.

Two documents whose runs overlap by 95%, 90%, 80% or 50% (Jaccard) share a label with probability 0.99998, 0.998, 0.91
or 0.12. Different documents with a common header share a label if a band is taken from the header alone. In groups of
2,000 documents, this happened to no document if the header was a third of its length, to a fifth of the documents if it
was half, and to most documents if it was 0.7 of the length.

These copies are not found: two short documents (under 256 bytes, one or two sentences) that differ in a word; a passage
quoted in a much longer document; paraphrases and translations; many of the documents that overlap by less than 80%.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from jaxtyping import UInt64

__all__ = ["BANDS", "cluster_labels", "normalized", "partitions", "sketches", "text_key"]

LONG = 256
"""Smallest normalized text that has a sketch, in bytes; shorter texts would share bands by chance."""

BANDS = 8
ROWS = 6
SAMPLE = 4
"""One run in four is hashed. The content of a run decides, so that copies hash the same runs."""

PARTITION = 2_000_000
"""Largest number of documents sorted in memory at once."""

Labels = UInt64[np.ndarray, " documents"]

_SPACED = bytes(byte if byte >= 128 or chr(byte).isalnum() else 32 for byte in range(256)).lower()
_TYPOGRAPHY = re.compile(rb"\xc2[\x80-\xbf]|\xe2\x80[\x80-\xbf]|\xe2\x81[\x80-\xaf]|\xe3\x80[\x80-\x83]")
"""In UTF-8: signs and spaces of Latin-1, General Punctuation (dashes, curly quotes), and the CJK space and stops.

The pattern matches bytes, because the character classes of `str` change with Python's version of Unicode.
"""

_ODD = np.random.PCG64(2109_08668).random_raw(BANDS * ROWS + 3) | np.uint64(1)
"""Odd factors of the hash functions, from the raw random stream. NumPy never changes it, unlike its distributions."""


def normalized(content: bytes) -> bytes:
    """Return UTF-8 text in the form that copies share: lower-case words of letters and digits, between single spaces.

    >>> normalized(b"The  cat, it SAT.")
    b'the cat it sat'
    """
    spaced = content if content.isascii() else _TYPOGRAPHY.sub(b" ", content)
    return b" ".join(spaced.translate(_SPACED).split()) or content.strip()


def text_key(content: bytes) -> int:
    """Return a 64-bit hash of a text that ignores case, punctuation and spacing."""
    return _key(normalized(content))


def sketches(contents: Sequence[bytes]) -> tuple[Labels, UInt64[np.ndarray, "documents {BANDS}"]]:
    """Return keys and bands of documents. All bands of a short document are its key."""
    keys = np.empty(len(contents), np.uint64)
    bands = np.empty((len(contents), BANDS), np.uint64)
    for index, content in enumerate(contents):
        text = normalized(content)
        keys[index] = bands[index] = _key(text)
        if len(text) >= LONG:
            bands[index] = _bands(text)
    return keys, bands


def cluster_labels(labels: Labels, bands: Sequence[Labels]) -> None:
    """Give documents that share a band, directly or through others, the smallest of their labels, in place.

    Args:
        labels: the documents' keys, changed in place; may be a memory map.
        bands: values of each band, for every document; may be memory maps.
    """
    changed = True
    while changed:
        changed = False
        for band in bands:
            for positions in partitions(band):
                changed = _lower(labels, band, positions) or changed


def _lower(labels: Labels, band: Labels, positions: np.ndarray) -> bool:
    """Lower labels at `positions` to the smallest among documents with the same band; return whether any changed."""
    values = np.asarray(band[positions])
    order = np.argsort(values, kind="stable")
    positions, values = positions[order], values[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    old = np.asarray(labels[positions])
    new = np.repeat(np.minimum.reduceat(old, starts), np.diff(np.r_[starts, len(values)]))
    different = new != old
    labels[positions[different]] = new[different]
    return bool(different.any())


def partitions(values: Labels) -> Iterator[np.ndarray]:
    """Yield positions in groups small enough to sort. Equal values are in the same group."""
    if not len(values):
        return
    parts = np.uint64(len(values) // PARTITION + 1)
    if parts == 1:
        yield np.arange(len(values))
        return
    for part in range(int(parts)):
        found = [
            start + np.flatnonzero(np.asarray(values[start : start + PARTITION]) % parts == part)
            for start in range(0, len(values), PARTITION)
        ]
        if len(positions := np.concatenate(found)):
            yield positions


def _bands(text: bytes) -> UInt64[np.ndarray, " {BANDS}"]:
    runs = _runs(text)
    chosen = runs[runs >> np.uint64(7) & np.uint64(SAMPLE - 1) == 0]
    if len(chosen) < ROWS:
        chosen = runs
    mixed = np.arange(1, BANDS + 1, dtype=np.uint64)
    for row in _smallest(chosen, _ODD[: BANDS * ROWS]).reshape(BANDS, ROWS).T:
        mixed = (mixed ^ row) * _ODD[-1]
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _smallest(runs: Labels, factors: Labels) -> Labels:
    """Return the smallest hash of all runs, for each factor of a hash function."""
    if len(runs) > 2048:
        return np.array([np.min(runs * factor) for factor in factors], np.uint64)
    return np.min(factors[:, None] * runs, axis=1)


def _runs(text: bytes) -> UInt64[np.ndarray, " runs"]:
    """Return hashes of all runs of 16 bytes, in order."""
    words = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    runs = words[:-8] * _ODD[-2] ^ words[8:] * _ODD[-3]
    runs ^= runs >> np.uint64(31)
    runs *= _ODD[-1]
    return runs ^ runs >> np.uint64(27)


def _key(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
