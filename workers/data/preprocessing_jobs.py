"""Jobs of worker processes on portions of a corpus: sketch documents (`near_duplicates`), sample text, encode text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from .corpus import Portion
from .near_duplicates import sketches, text_key
from .splits import EXCLUDED, SPLITS, is_held_out
from .tokenizer import CachingEncoder
from .user_tokenizers import DocumentEncoder, encode_documents, read_tokenizer

__all__ = ["EncodeJob", "EncodedSplit", "PortionSketch", "ReadJob", "SketchJob", "count_words"]


@dataclass(frozen=True, slots=True)
class PortionSketch:
    """Columns of little-endian u64, with one number for each document of a portion.

    Attributes:
        documents: number of documents.
        digests: hashes of the exact text.
        sizes: bytes of text; 0 for blank documents.
        keys, bands: keys and bands of the documents (see `near_duplicates`).
    """

    documents: int
    digests: bytes
    sizes: bytes
    keys: bytes
    bands: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SketchJob:
    """Compute the hashes and sizes of a portion's documents that their assignment to splits needs."""

    portion: Portion

    def __call__(self) -> PortionSketch:
        contents = self.portion.read()
        keys, bands = sketches(contents)
        sizes = np.array([len(content) if content.strip() else 0 for content in contents], "<u8")
        return PortionSketch(
            len(contents),
            digests=b"".join(blake2b(content, digest_size=8).digest() for content in contents),
            sizes=sizes.tobytes(),
            keys=keys.astype("<u8").tobytes(),
            bands=tuple(band.astype("<u8").tobytes() for band in bands.T),
        )


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Read the train documents of a portion, to train the tokenizer.

    Attributes:
        portion, split_ids, hold_out: as in `EncodeJob`.
        parts: 1 reads whole documents; n reads one n-th of each document, at a position that its hash selects.
    """

    portion: Portion
    split_ids: bytes | None
    hold_out: bool
    parts: int

    def __call__(self) -> list[bytes]:
        contents = self.portion.read()
        split_ids = _split_ids(self.portion, contents, self.split_ids, self.hold_out)
        return [_part(content, self.parts) for content, split in zip(contents, split_ids, strict=True) if split == 0]


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """Token ids that a portion adds to one split, and their counts."""

    ids: bytes
    documents: int
    text_bytes: int
    words: int
    tokens: int


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Encode a portion as token ids; return the result for each split.

    Attributes:
        portion: portion of the corpus.
        split_ids: split of each document, as an index of `SPLITS` or EXCLUDED; None: the split of the portion.
        hold_out: whether `is_held_out` selects sentences of train portions for validation (only without `split_ids`).
        tokenizer: file of the tokenizer.
        dtype: NumPy type of the ids.
    """

    portion: Portion
    split_ids: bytes | None
    hold_out: bool
    tokenizer: Path
    dtype: str

    def __call__(self) -> dict[str, EncodedSplit]:
        encoder = _encoder(self.tokenizer, self.dtype)
        contents = self.portion.read()
        split_ids = _split_ids(self.portion, contents, self.split_ids, self.hold_out)
        encoded = {}
        for index, name in enumerate(SPLITS):
            texts = [content for content, split in zip(contents, split_ids, strict=True) if split == index]
            if texts:
                ids = encoder.encode(texts)
                words = sum(map(count_words, texts))
                tokens = len(ids) // np.dtype(self.dtype).itemsize
                encoded[name] = EncodedSplit(ids, len(texts), sum(map(len, texts)), words, tokens)
        return encoded


def count_words(content: bytes) -> int:
    """Return the number of words as the One Billion Word benchmark counts them: the end of a document is a word too."""
    return len(content.split()) + 1


def _split_ids(portion: Portion, contents: list[bytes], given: bytes | None, hold_out: bool) -> Sequence[int]:
    if given is not None:
        return given
    assert portion.split is not None
    own, validation = SPLITS.index(portion.split), SPLITS.index("validation")
    hold_out = hold_out and own == 0
    return [
        EXCLUDED if not content.strip() else validation if hold_out and is_held_out(content) else own
        for content in contents
    ]


def _part(content: bytes, parts: int) -> bytes:
    length = -(-len(content) // parts)
    start = text_key(content) % (len(content) - length + 1) if parts > 1 else 0
    return content[start : start + length]


@lru_cache(maxsize=1)
def _encoder(tokenizer: Path, dtype: str) -> CachingEncoder | DocumentEncoder:
    return encode_documents(read_tokenizer(tokenizer.read_text(encoding="utf-8")), dtype)
