"""Near-duplicate documents found at streaming cost, so that copies of a text end in one split.

Every document has a key: the hash of its text without case, punctuation and spacing (case of ASCII alone, punctuation
and spaces of ASCII and typography; other signs stay as they are). Documents with one key are copies. Longer ones also
have a sketch: MinHash (Broder 1997) over runs of 16 bytes of that text, in 8 bands of 6; documents that share a band
are taken for copies, and copies of copies, too.
Copies share a label, the least of their keys; a split that follows the label never divides them. Two documents whose
runs overlap by 95%, 90%, 80%, 50% (Jaccard) share a label with probability 0.99998, 0.998, 0.91, 0.12.

Otherwise different documents that share a header share a label if it makes up all that a band is taken from: of 2,000
with a header of a third of each document none did, of a half a fifth, of 0.7 most.

What this does not catch: two short documents (under 256 bytes, a sentence or two) that differ in a word; a passage
quoted inside a much longer document; paraphrases and translations; the rest of those at 80% and below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from jaxtyping import UInt64

__all__ = ["BANDS", "cluster_labels", "normalized", "partitions", "sketches", "text_key"]

LONG = 256
"""Bytes of normalized text from which on a document has a sketch: below, two sentences would share one by chance."""

BANDS = 8
ROWS = 6
SAMPLE = 4
"""One run in so many is hashed, chosen by its content, so copies choose the same."""

PARTITION = 2_000_000
"""Documents that are sorted in memory at once."""

Labels = UInt64[np.ndarray, " documents"]

_SPACED = bytes(byte if byte >= 128 or chr(byte).isalnum() else 32 for byte in range(256)).lower()
_TYPOGRAPHY = re.compile(rb"\xc2[\x80-\xbf]|\xe2\x80[\x80-\xbf]|\xe2\x81[\x80-\xaf]|\xe3\x80[\x80-\x83]")
"""In UTF-8: signs and spaces of Latin-1, General Punctuation (dashes, curly quotes), and the CJK space and stops.

Bytes, not what `str` knows of characters: that changes with the Unicode version, and so with the Python.
"""

_ODD = np.random.PCG64(2109_08668).random_raw(BANDS * ROWS + 3) | np.uint64(1)
"""Of the raw stream, which NumPy keeps the same for ever, as it does not promise of its distributions."""


def normalized(content: bytes) -> bytes:
    """UTF-8 text as copies of it share it: lower case, words of letters and digits, one space between them.

    >>> normalized(b"The  cat, it SAT.")
    b'the cat it sat'
    """
    spaced = content if content.isascii() else _TYPOGRAPHY.sub(b" ", content)
    return b" ".join(spaced.translate(_SPACED).split()) or content.strip()


def text_key(content: bytes) -> int:
    """64 bits that texts share if they are equal but for case, punctuation and spacing."""
    return _key(normalized(content))


def sketches(contents: Sequence[bytes]) -> tuple[Labels, UInt64[np.ndarray, "documents {BANDS}"]]:
    """Keys and bands of documents; a short document's bands are its key."""
    keys = np.empty(len(contents), np.uint64)
    bands = np.empty((len(contents), BANDS), np.uint64)
    for place, content in enumerate(contents):
        text = normalized(content)
        keys[place] = bands[place] = _key(text)
        if len(text) >= LONG:
            bands[place] = _bands(text)
    return keys, bands


def cluster_labels(labels: Labels, bands: Sequence[Labels]) -> None:
    """Give documents that share a band, directly or through others, the least of their labels, in place.

    Args:
        labels: at first the documents' keys; may be a memory map, as may each of the bands.
        bands: for each band its value for every document.
    """
    changed = True
    while changed:
        changed = False
        for band in bands:
            for places in partitions(band):
                changed = _lower(labels, band, places) or changed


def _lower(labels: Labels, band: Labels, places: np.ndarray) -> bool:
    """Within documents at `places`, lower labels to the least among those with the same band; whether any changed."""
    values = np.asarray(band[places])
    order = np.argsort(values, kind="stable")
    places, values = places[order], values[order]
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    old = np.asarray(labels[places])
    new = np.repeat(np.minimum.reduceat(old, starts), np.diff(np.r_[starts, len(values)]))
    different = new != old
    labels[places[different]] = new[different]
    return bool(different.any())


def partitions(values: Labels) -> Iterator[np.ndarray]:
    """Positions, in groups small enough to sort; equal values fall into one group."""
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
        if len(places := np.concatenate(found)):
            yield places


def _bands(text: bytes) -> UInt64[np.ndarray, " {BANDS}"]:
    runs = _runs(text)
    chosen = runs[runs >> np.uint64(7) & np.uint64(SAMPLE - 1) == 0]
    if len(chosen) < ROWS:
        chosen = runs
    mixed = np.arange(1, BANDS + 1, dtype=np.uint64)
    for row in _least(chosen, _ODD[: BANDS * ROWS]).reshape(BANDS, ROWS).T:
        mixed = (mixed ^ row) * _ODD[-1]
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _least(runs: Labels, factors: Labels) -> Labels:
    """The least of all runs under each of the hash functions, which multiply by a factor."""
    if len(runs) > 2048:
        return np.array([np.min(runs * factor) for factor in factors], np.uint64)
    return np.min(factors[:, None] * runs, axis=1)


def _runs(text: bytes) -> UInt64[np.ndarray, " runs"]:
    """Hashes of all runs of 16 bytes, in their order."""
    words = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))
    runs = words[:-8] * _ODD[-2] ^ words[8:] * _ODD[-3]
    runs ^= runs >> np.uint64(31)
    runs *= _ODD[-1]
    return runs ^ runs >> np.uint64(27)


def _key(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
