"""The jobs that processes do on portions of a corpus: sketch documents, sample text, turn text into token ids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from .corpus import Portion
from .near_duplicates import sketches, text_key
from .splits import EXCLUDED, SPLITS, is_held_out
from .tokenizer import CachingEncoder, Tokenizer

__all__ = ["EncodeJob", "EncodedSplit", "PortionSketch", "ReadJob", "SketchJob", "count_words"]


@dataclass(frozen=True, slots=True)
class PortionSketch:
    """Of each document in a portion: its hash, its bytes (0 if blank), its key, and its bands; as little-endian u64."""

    documents: int
    digests: bytes
    sizes: bytes
    keys: bytes
    bands: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SketchJob:
    """Find out what splits must know of the documents in a portion."""

    portion: Portion

    def __call__(self) -> PortionSketch:
        contents = self.portion.read()
        keys, bands = sketches(contents)
        digests = b"".join(blake2b(content, digest_size=8).digest() for content in contents)
        sizes = np.array([len(content) if content.strip() else 0 for content in contents], "<u8")
        return PortionSketch(
            len(contents),
            digests,
            sizes.tobytes(),
            keys.astype("<u8").tobytes(),
            tuple(band.astype("<u8").tobytes() for band in bands.T),
        )


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Read the train documents of a portion, or of each document one part in so many, from a place its hash chooses.

    `places` and `hold_out` are those of `EncodeJob`.
    """

    portion: Portion
    places: bytes | None
    hold_out: bool
    parts: int

    def __call__(self) -> list[bytes]:
        contents = self.portion.read()
        places = _places(self.portion, contents, self.places, self.hold_out)
        train = [content for content, place in zip(contents, places, strict=True) if place == 0]
        return train if self.parts == 1 else [_part(content, self.parts) for content in train]


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """Of one split: token ids as they are written, and how many documents, bytes, words and tokens they are."""

    ids: bytes
    documents: int
    text_bytes: int
    words: int
    tokens: int


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Tokenize a portion.

    Attributes:
        portion: of the corpus.
        places: the split of each document, as a place in `SPLITS` or LEFT_OUT; None if they follow from the portion.
        hold_out: whether a train portion gives validation the sentences whose hash is 0 (used without `places`).
        tokenizer: its file.
        dtype: of the ids.
    """

    portion: Portion
    places: bytes | None
    hold_out: bool
    tokenizer: Path
    dtype: str

    def __call__(self) -> dict[str, EncodedSplit]:
        packer = _packer(self.tokenizer, self.dtype)
        contents = self.portion.read()
        places = _places(self.portion, contents, self.places, self.hold_out)
        encoded = {}
        for place, split in enumerate(SPLITS):
            texts = [content for content, its in zip(contents, places, strict=True) if its == place]
            if texts:
                ids = packer.pack(texts)
                words = sum(map(count_words, texts))
                tokens = len(ids) // np.dtype(self.dtype).itemsize
                encoded[split] = EncodedSplit(ids, len(texts), sum(map(len, texts)), words, tokens)
        return encoded


def count_words(content: bytes) -> int:
    """Words of a document as the One Billion Word benchmark counts them: runs between spaces, and one for its end."""
    return len(content.split()) + 1


def _places(portion: Portion, contents: list[bytes], places: bytes | None, hold_out: bool) -> bytes | list[int]:
    if places is not None:
        return places
    assert portion.split is not None
    own = SPLITS.index(portion.split)
    held = SPLITS.index("validation")
    divided = hold_out and own == 0
    return [
        EXCLUDED if not content.strip() else held if divided and is_held_out(content) else own for content in contents
    ]


def _part(content: bytes, parts: int) -> bytes:
    length = -(-len(content) // parts)
    start = text_key(content) % (len(content) - length + 1)
    return content[start : start + length]


@lru_cache(maxsize=1)
def _packer(tokenizer: Path, dtype: str) -> CachingEncoder:
    return Tokenizer.load(tokenizer).packer(dtype)
