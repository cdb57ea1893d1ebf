"""Which split a document belongs to: train, validation (what fitness reads) or test (what final comparisons read).

The split depends on the document's text, through its hash modulo 200, so it is the same on every machine and a text
keeps it when others come and go. Our choice for sources without splits of their own: residues 0-4 are validation, 5-9
test (2.5% each). Only where that leaves a split with too little, in short sources, do documents with the next hashes
fill it up. Repeated documents count once, so no text is in two splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from ..primitives.errors import UsageError
from .sources import documents

__all__ = ["SPLITS", "CorpusIndex", "HashedText", "distinct_texts", "index_source"]

SPLITS: tuple[str, ...] = ("train", "validation", "test")

BUCKETS = 200
VALIDATION_BUCKETS = 5
TEST_BUCKETS = 5
LEAST_SHARE = 0.01
"""Of the bytes, in validation and in test: in short sources, documents with the next hashes fill them up to this."""

LARGE_SHARE = 0.05
"""Of the bytes; a document above this goes to train while others are left: it would be a split by itself."""

LEAST_BYTES = 10_000
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class HashedText:
    """A document's text as UTF-8 bytes, and its hash."""

    digest: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class CorpusIndex:
    """All of a source but its text.

    Attributes:
        content_hash: of the distinct documents in their order (hexadecimal).
        sizes: bytes of each distinct document, by its digest.
        split_of: the split of each distinct document, by its digest.
    """

    content_hash: str
    sizes: dict[bytes, int]
    split_of: dict[bytes, str]


def distinct_texts(source: str) -> Iterator[HashedText]:
    """The documents of a source that are neither blank nor a repetition of an earlier one, in order."""
    seen: set[bytes] = set()
    for document in documents(source):
        content = document.text.encode("utf-8")
        digest = blake2b(content, digest_size=DIGEST_BYTES).digest()
        if digest not in seen and content.strip():
            seen.add(digest)
            yield HashedText(digest, content)


def index_source(source: str) -> CorpusIndex:
    """Read a source once, in constant memory but for 16 bytes and some numbers a document.

    Raises:
        UsageError: the source cannot be read, or is too little to train, validate and test on.
    """
    content_hash = blake2b(digest_size=DIGEST_BYTES)
    sizes: dict[bytes, int] = {}
    for text in distinct_texts(source):
        content_hash.update(text.digest)
        sizes[text.digest] = len(text.content)
    if len(sizes) < len(SPLITS) or sum(sizes.values()) < LEAST_BYTES:
        raise UsageError(
            f"data.source {source} is too little text ({len(sizes)} different documents, {sum(sizes.values())} bytes):"
            f" give at least {len(SPLITS)} documents and {LEAST_BYTES} bytes."
        )
    return CorpusIndex(content_hash.hexdigest(), sizes, _assign(sizes))


def _assign(sizes: dict[bytes, int]) -> dict[bytes, str]:
    """Order documents by bucket, large ones last: the first are validation, the next test, the others train.

    None of the three is left empty.
    """
    large = LARGE_SHARE * sum(sizes.values())
    order = sorted(sizes, key=lambda digest: (sizes[digest] > large, _bucket(digest), digest))
    total = [0, *accumulate(sizes[digest] for digest in order)]
    least = LEAST_SHARE * total[-1]

    def boundary(first: int, buckets: int, last: int) -> int:
        hashed = sum(sizes[digest] <= large and _bucket(digest) < buckets for digest in order)
        filled = next((end for end in range(first, last) if total[end] - total[first] >= least), last)
        return min(max(hashed, filled, first + 1), last)

    validation_end = boundary(0, VALIDATION_BUCKETS, len(order) - 2)
    test_end = boundary(validation_end, VALIDATION_BUCKETS + TEST_BUCKETS, len(order) - 1)
    ends = {"validation": validation_end, "test": test_end, "train": len(order)}
    starts = {"validation": 0, "test": validation_end, "train": test_end}
    return {digest: split for split in SPLITS for digest in order[starts[split] : ends[split]]}


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") % BUCKETS
