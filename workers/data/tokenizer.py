"""Byte-level BPE: any UTF-8 text to token ids and back without loss.

Sennrich et al. 2016 (arXiv 1508.07909) over bytes, as GPT-2 does it. The vocabulary is the 256 bytes, one
end-of-document token and learned merges. This is the one module that imports `tokenizers`, and only when asked to.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ...primitives.errors import UsageError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["END_OF_DOCUMENT", "SMALLEST_VOCABULARY", "CachingEncoder", "Tokenizer"]

END_OF_DOCUMENT = "<|endofdocument|>"
SMALLEST_VOCABULARY = 257
"""The bytes and the end-of-document token."""

LEAST_FREQUENCY = 2
"""A pair that occurs once in all of the text is not worth a token."""

ASCII_PIECE = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
)
"""Where byte-level BPE cuts ASCII text before it looks for merges: what GPT-2's pattern comes to there."""

SINGLE_SPACE = re.compile(r"(?<=\S)(?= \S)")
"""A place where a piece begins in any text: before a space between two characters that are none."""

REMEMBERED = 150_000
REMEMBERED_LENGTH = 64
"""Pieces whose token ids a `CachingEncoder` caches (twice as many in all, about 60 MB), and their longest length."""


class Tokenizer:
    """A trained tokenizer. The end-of-document token never comes out of text, not even of text that spells its name."""

    def __init__(self, inner: tokenizers.Tokenizer):
        end = inner.token_to_id(END_OF_DOCUMENT)
        if end is None:
            raise UsageError(f"The tokenizer has no {END_OF_DOCUMENT} token: it was not made by primer-search.")
        inner.encode_special_tokens = True
        self._inner = inner
        self.end_of_document: int = end

    @staticmethod
    def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """Learn merges from texts until the vocabulary is full or no pair occurs twice.

        Args:
            texts: read once, in order; the result depends on nothing else.
            vocabulary: number of token ids, at most; at least `SMALLEST_VOCABULARY`.
        """
        if vocabulary < SMALLEST_VOCABULARY:
            raise UsageError(f"model.vocabulary is {vocabulary}: give at least {SMALLEST_VOCABULARY}, a token a byte.")
        from tokenizers import Tokenizer as Inner
        from tokenizers import decoders, models, pre_tokenizers, trainers

        inner = Inner(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=LEAST_FREQUENCY,
            special_tokens=[END_OF_DOCUMENT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return Tokenizer(inner)

    @staticmethod
    def from_json(text: str) -> Tokenizer:
        """Load a tokenizer from the text of `to_json`.

        Raises:
            UsageError: the text is not a tokenizer of this package.
        """
        from tokenizers import Tokenizer as Inner

        try:
            inner = Inner.from_str(text)
        except Exception as error:
            raise UsageError(f"The tokenizer cannot be read ({error}): prepare the data again.") from error
        return Tokenizer(inner)

    @staticmethod
    def load(path: Path) -> Tokenizer:
        """Read a `tokenizer.json`."""
        return Tokenizer.from_json(path.read_text(encoding="utf-8"))

    def to_json(self) -> str:
        """The format of the `tokenizers` library."""
        return self._inner.to_str()

    @property
    def size(self) -> int:
        """Number of token ids; less than was asked for where the text had too few pairs."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without an end-of-document token."""
        return self._inner.encode(text).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts."""
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts))]

    def packer(self, dtype: str) -> CachingEncoder:
        """Return an encoder for large texts, with ids of this NumPy type."""
        return CachingEncoder(self, dtype)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; end-of-document tokens show by their name."""
        return self._inner.decode(list(ids), skip_special_tokens=False)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of token ids as they come, a piece each; a character waits until all its bytes are there.

        The pieces of all ids, and one more for bytes that were left waiting, make up what `decode` gives.
        """
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            yield incremental.decode(self._bytes_of(token))
        if rest := incremental.decode(b"", final=True):
            yield rest

    def _bytes_of(self, token: int) -> bytes:
        written = self._inner.id_to_token(token) or ""
        return written.encode() if token == self.end_of_document else bytes(BYTE_OF_SIGN[sign] for sign in written)


class CachingEncoder:
    """Encodes texts to the bytes of their ids, each text ended by the end-of-document token.

    Merges never cross the pieces that text is cut into, so a piece has the same ids wherever it stands. Text repeats
    its pieces, and looking them up is several times as fast as merging them anew. Beyond ASCII, where pieces follow
    Unicode's tables, text is cut at its single spaces only, between which the library finds the pieces.
    """

    def __init__(self, tokenizer: Tokenizer, dtype: str):
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._end = np.array([tokenizer.end_of_document], dtype).tobytes()
        self._known: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def pack(self, contents: Iterable[bytes]) -> bytes:
        """The ids of texts in UTF-8, one after the other."""
        return b"".join(map(self._pack_one, contents))

    def _pack_one(self, content: bytes) -> bytes:
        pieces = _pieces(content.decode("utf-8", "replace"))
        ids = list(map(self._known.get, pieces))
        if None in ids:
            found = self._find({piece for piece, its_ids in zip(pieces, ids, strict=True) if its_ids is None})
            ids = [found[piece] if its_ids is None else its_ids for piece, its_ids in zip(pieces, ids, strict=True)]
        return b"".join(cast("list[bytes]", ids)) + self._end

    def _find(self, pieces: set[str]) -> dict[str, bytes]:
        """The ids of pieces that were not seen lately, from before or from the library, which is asked once for all."""
        found = {piece: self._older[piece] for piece in pieces if piece in self._older}
        unknown = [piece for piece in pieces if piece not in found]
        for piece, ids in zip(unknown, self._tokenizer.encode_all(unknown), strict=True):
            found[piece] = np.array(ids, self._dtype).tobytes()
        if len(self._known) > REMEMBERED:  # what is still in use moves over, one by one
            self._older, self._known = self._known, {}
        self._known.update((piece, ids) for piece, ids in found.items() if len(piece) <= REMEMBERED_LENGTH)
        return found


def _pieces(text: str) -> list[str]:
    if text.isascii():
        return ASCII_PIECE.findall(text)
    pieces: list[str] = []
    for word in SINGLE_SPACE.split(text):
        if word.isascii():
            pieces += ASCII_PIECE.findall(word)
        else:
            pieces.append(word)
    return pieces


def _byte_of_sign() -> dict[str, int]:
    """GPT-2's visible signs for bytes: those of Latin-1 where they print, else the ones from U+0100 on, in order."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printing))
    return {chr(byte): byte for byte in printing} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_OF_SIGN = _byte_of_sign()
"""How the tokenizer writes bytes, the other way round."""
