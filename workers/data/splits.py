"""Assignment of documents to train, validation (scored during search) and test (scored by final comparisons).

Splits of the source itself are kept. Missing splits are taken from its train documents, or from all documents if it has
no splits. The residue of a document decides: its label modulo 200. A label is a hash of the text that copies and near
copies share (see `near_duplicates`), so all copies are in one split. A text has the same split on every machine. This
split depends on other documents only if they are copies of the text, if they bring the source to 10,000 documents, or
in the cases of small splits and large groups below.

For a source without splits, documents with residues 0-19 become validation and those with 20-39 test (10% each). In a
source of at least 10,000 documents, only a quarter of these residues are used. Smaller sources need larger splits,
because a split of few documents may not resemble the rest (docs/discovery.md). In a TFDS set, each missing split gets
the train documents of one residue, validation first. If a split is too small, documents with the next residues fill it.
Very large groups of copies go to train. Repetitions of a document are excluded from a source without splits; TFDS sets
stay complete.
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
    "check_enough_groups",
    "check_enough_text",
    "exclude_repetitions",
    "is_held_out",
    "residue_counts",
    "warn_of_large_splits",
]

SPLITS: tuple[str, ...] = ("train", "validation", "test")
EXCLUDED = 255
"""Split id of a document that is blank or a repetition; other split ids are indices of `SPLITS`."""

RESIDUES = 200
LARGE_SOURCE_RESIDUES = 5
"""Number of residues for each of validation and test, for a source without splits of at least `MANY_DOCUMENTS`."""

SMALL_SOURCE_RESIDUES = 20
"""Number of residues for each of validation and test, for a source without splits of fewer documents."""

MANY_DOCUMENTS = 10_000

MIN_SHARE = 0.01
"""Smallest share of the bytes in each of validation and test, if there are enough documents."""

LARGE_SHARE = 0.05
"""A group of copies with a larger share of the bytes goes to train if possible, because it would fill a split alone."""

MOST_OVER_PLAN = 2.0
"""Largest ratio of a split's share of the bytes to its planned share; above it, a warning is given."""

FILL_LIMIT = 2_000_000
"""Number of documents above which the residue alone decides, in constant memory. Every split then has documents."""

MIN_BYTES = 10_000

Labels = UInt64[np.ndarray, " documents"]
SplitIds = UInt8[np.ndarray, " documents"]


def residue_counts(own_splits: frozenset[str], documents: int) -> dict[str, int]:
    """Return the number of residues for each split that a source lacks, in order from residue 0.

    Args:
        own_splits: splits that the source has.
        documents: number of its documents.
    """
    share = 1 if own_splits else LARGE_SOURCE_RESIDUES if documents >= MANY_DOCUMENTS else SMALL_SOURCE_RESIDUES
    return {split: share for split in SPLITS[1:] if split not in own_splits}


def is_held_out(content: bytes) -> bool:
    """Return whether a train sentence of a set without validation text goes to validation: whether its residue is 0."""
    return text_key(content) % RESIDUES == 0


def assign_splits(labels: Labels, sizes: Labels, shares: dict[str, int]) -> SplitIds:
    """Return the split id of each document. Documents with the same label share a split.

    Args:
        labels: labels of the documents (see `near_duplicates.cluster_labels`).
        sizes: bytes of the documents; 0 for those that do not count.
        shares: number of residues of each split that is taken from train (see `residue_counts`).
    """
    if len(labels) > FILL_LIMIT:
        return _assign_by_residue(labels, shares)
    clusters, members = np.unique(labels, return_inverse=True)
    cluster_sizes = np.bincount(members, np.asarray(sizes, np.float64), len(clusters))
    order, ends = _order(clusters, cluster_sizes, list(shares.values()))
    split_ids = np.zeros(len(clusters), np.uint8)
    for split, (start, end) in zip(shares, pairwise([0, *ends]), strict=True):
        split_ids[order[start:end]] = SPLITS.index(split)
    return split_ids[members]


def exclude_repetitions(split_ids: SplitIds, digests: Labels) -> SplitIds:
    """Return the split ids after excluding all repetitions of a document; the first copy keeps its split.

    Args:
        split_ids: split ids of all documents.
        digests: 64-bit hashes of their exact text.
    """
    result = split_ids.copy()
    for part in partitions(digests):
        values = digests[part]
        order = np.argsort(values, kind="stable")
        repeated = np.r_[False, values[order][1:] == values[order][:-1]]
        result[part[order[repeated]]] = EXCLUDED
    return result


def check_enough_text(source: str, documents: int, text_bytes: int) -> None:
    """Check that a source is large enough for all splits.

    Raises:
        UsageError: the source has too few documents or bytes.
    """
    if documents < len(SPLITS) or text_bytes < MIN_BYTES:
        raise UsageError(
            f"data.source {source} has {documents} different documents with {text_bytes} bytes:"
            f" use at least {len(SPLITS)} documents and {MIN_BYTES} bytes"
        )


def check_enough_groups(source: str, labels: Labels, sizes: Labels) -> None:
    """Check that a source has at least one group of copies for each split; copies are never separated.

    Args:
        source: source as the user wrote it.
        labels, sizes: the arguments of `assign_splits`.

    Raises:
        UsageError: the source has fewer groups than there are splits.
    """
    if len(labels) > FILL_LIMIT:
        return
    documents = np.asarray(labels)[np.asarray(sizes) > 0]
    groups = len(np.unique(documents))
    if groups < len(SPLITS):
        raise UsageError(
            f"data.source {source} has {len(documents):,} documents that are near copies of each other: copies share a "
            f"split, so only {groups} of {len(SPLITS)} splits would have text. Give text that differs more"
        )


def warn_of_large_splits(splits: dict[str, dict[str, int]]) -> str:
    """Return a warning if validation or test hold far more text than planned, else an empty string.

    Args:
        splits: numbers of documents and bytes in each split. The source itself has no splits.
    """
    total = max(1, sum(each["bytes"] for each in splits.values()))
    counts = residue_counts(frozenset(), sum(each["documents"] for each in splits.values()))
    planned = {split: count / RESIDUES for split, count in counts.items()}
    shares = {split: splits[split]["bytes"] / total for split in planned}
    if all(shares[split] <= MOST_OVER_PLAN * planned[split] for split in planned):
        return ""
    found = ", ".join(f"{split} {shares[split]:.0%} (planned {planned[split]:.1%})" for split in planned)
    return (
        f"far more text is held out than planned: {found}. Few documents or groups of near copies make up most of the "
        "text: give more text, or text that differs more"
    )


def _assign_by_residue(labels: Labels, shares: dict[str, int]) -> SplitIds:
    table = np.zeros(RESIDUES, np.uint8)
    start = 0
    for split, share in shares.items():
        table[start : start + share] = SPLITS.index(split)
        start += share
    split_ids = np.empty(len(labels), np.uint8)
    for start in range(0, len(labels), FILL_LIMIT):
        part = slice(start, start + FILL_LIMIT)
        split_ids[part] = table[(np.asarray(labels[part]) % np.uint64(RESIDUES)).astype(np.intp)]
    return split_ids


def _order(clusters: Labels, sizes: np.ndarray, shares: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Sort clusters by residue, large clusters last. Return this order, and the end of each split in the order.

    No split is empty, train included.
    """
    residues = (clusters % np.uint64(RESIDUES)).astype(np.int64)
    total = sizes.sum()
    large = sizes > LARGE_SHARE * total
    blank = sizes == 0
    order = np.lexsort((clusters, residues, large, blank))
    bytes_before = np.r_[0.0, np.cumsum(sizes[order])]
    last = int(np.count_nonzero(~blank))
    ends: list[int] = []
    start, residue_end = 0, 0
    for index, share in enumerate(shares):
        residue_end += share
        limit = last - (len(shares) - index)
        by_residue = int(np.count_nonzero(~blank & ~large & (residues < residue_end)))
        by_size = int(np.searchsorted(bytes_before, bytes_before[start] + MIN_SHARE * total))
        start = min(max(by_residue, by_size, start + 1), limit)
        ends.append(start)
    return order, ends
