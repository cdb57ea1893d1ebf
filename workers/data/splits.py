"""Which split a document belongs to: train, validation (what fitness reads) or test (what final comparisons read).

A source's own splits are kept. Those it lacks are made from its train documents, or from all if it has none, by each
document's label modulo 200: a hash of its text, which copies and near copies share (see `near_duplicates`), so they are
never divided, and a text keeps its split on every machine and when others come and go. Our choice for text without any
splits: residues 0-4 are validation, 5-9 test (2.5% each). A published set gives its train documents at 0 to validation,
and at 1 to test where it has no test text either. Only where that leaves a split with too little, in short sources, do
documents with the next hashes fill it up. Equal documents of text without splits count once; published sets stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8, UInt64

from ...primitives.errors import UsageError
from .near_duplicates import partitions, text_key

__all__ = [
    "EXCLUDED",
    "FILL_LIMIT",
    "SPLITS",
    "assign_splits",
    "check_enough_text",
    "exclude_repetitions",
    "is_held_out",
    "residue_counts",
]

SPLITS: tuple[str, ...] = ("train", "validation", "test")
EXCLUDED = 255
"""In an array of places in `SPLITS`: a document that is blank or a repetition."""

BUCKETS = 200
OWN_RESIDUES = 5
"""Of 200, for validation and for test, where a source has no splits."""

LEAST_SHARE = 0.01
"""Of the bytes, in validation and in test: in short sources, documents with the next hashes fill them up to this."""

LARGE_SHARE = 0.05
"""Of the bytes; copies of a text above this go to train while others are left: they would be a split by themselves."""

FILL_LIMIT = 2_000_000
"""Documents from which on hashes alone decide, in constant memory: so many need no filling up."""

LEAST_BYTES = 10_000

Labels = UInt64[np.ndarray, " documents"]
Places = UInt8[np.ndarray, " documents"]


def residue_counts(own_splits: frozenset[str]) -> dict[str, int]:
    """How many residues modulo 200 each split that must be made gets, in order from 0."""
    share = 1 if own_splits else OWN_RESIDUES
    return {split: share for split in SPLITS[1:] if split not in own_splits}


def is_held_out(content: bytes) -> bool:
    """Whether a sentence of a set without validation text belongs to it: design rule "hash modulo 200 is 0"."""
    return text_key(content) % BUCKETS == 0


def assign_splits(labels: Labels, sizes: Labels, wanted: dict[str, int]) -> Places:
    """The split of each document, as a place in `SPLITS`; documents with one label share it.

    Args:
        labels: of the documents (see `near_duplicates.cluster_labels`).
        sizes: bytes of each; 0 for those that do not count.
        wanted: the splits to take from train, and how many residues modulo 200 each gets.
    """
    if len(labels) > FILL_LIMIT:
        return _by_residue(labels, wanted)
    clusters, member = np.unique(labels, return_inverse=True)
    held = np.bincount(member, np.asarray(sizes, np.float64), len(clusters))
    order, ends = _order(clusters, held, list(wanted.values()))
    split_of = np.zeros(len(clusters), np.uint8)
    for split, (start, end) in zip(wanted, pairwise([0, *ends]), strict=True):
        split_of[order[start:end]] = SPLITS.index(split)
    return split_of[member]


def exclude_repetitions(places: Places, digests: Labels) -> Places:
    """The splits with all but the first of equal documents left out.

    Args:
        places: of all documents.
        digests: 64 bits of each that only equal texts share.
    """
    kept = places.copy()
    for part in partitions(digests):
        values = digests[part]
        order = np.argsort(values, kind="stable")
        again = np.r_[False, values[order][1:] == values[order][:-1]]
        kept[part[order[again]]] = EXCLUDED
    return kept


def check_enough_text(source: str, documents: int, text_bytes: int) -> None:
    """Raise UsageError if a source is too little to train, validate and test on."""
    if documents < len(SPLITS) or text_bytes < LEAST_BYTES:
        raise UsageError(
            f"data.source {source} is too little text ({documents} different documents, {text_bytes} bytes):"
            f" give at least {len(SPLITS)} documents and {LEAST_BYTES} bytes."
        )


def _by_residue(labels: Labels, wanted: dict[str, int]) -> Places:
    table = np.zeros(BUCKETS, np.uint8)
    start = 0
    for split, share in wanted.items():
        table[start : start + share] = SPLITS.index(split)
        start += share
    places = np.empty(len(labels), np.uint8)
    for start in range(0, len(labels), FILL_LIMIT):
        part = slice(start, start + FILL_LIMIT)
        places[part] = table[(np.asarray(labels[part]) % np.uint64(BUCKETS)).astype(np.intp)]
    return places


def _order(clusters: Labels, held: np.ndarray, shares: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Clusters by bucket, large ones last, and where each wanted split ends in that order; none is left empty."""
    bucket = (clusters % np.uint64(BUCKETS)).astype(np.int64)
    total = held.sum()
    large = held > LARGE_SHARE * total
    empty = held == 0  # blank documents fill nothing
    order = np.lexsort((clusters, bucket, large, empty))
    below = np.r_[0.0, np.cumsum(held[order])]
    last = int(np.count_nonzero(~empty))
    ends: list[int] = []
    start, residue = 0, 0
    for place, share in enumerate(shares):
        residue += share
        limit = last - (len(shares) - place)
        hashed = int(np.count_nonzero(~empty & ~large & (bucket < residue)))
        filled = int(np.searchsorted(below, below[start] + LEAST_SHARE * total))
        start = min(max(hashed, filled, start + 1), limit)
        ends.append(start)
    return order, ends
