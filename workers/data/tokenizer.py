"""Byte-level BPE tokenizer, which encodes any UTF-8 text as token ids and decodes them without loss.

The algorithm is that of Sennrich et al. 2016 (arXiv 1508.07909) on bytes, as in GPT-2. The vocabulary consists of the
256 bytes, one end-of-document token and learned merges. `tokenizers` is imported only when it is needed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from ...primitives.errors import UsageError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["END_OF_DOCUMENT", "SMALLEST_VOCABULARY", "CachingEncoder", "Tokenizer"]

END_OF_DOCUMENT = "<|endofdocument|>"
SMALLEST_VOCABULARY = 257
"""Number of bytes plus the end-of-document token."""

MIN_FREQUENCY = 2
"""Smallest number of occurrences of a pair that becomes a token."""

ASCII_PIECE = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
)
"""Pieces into which byte-level BPE cuts ASCII text before merging: GPT-2's pattern, restricted to ASCII."""

SINGLE_SPACE = re.compile(r"(?<=\S)(?= \S)")
"""Position before a single space between two characters that are not spaces. A piece begins there in any text."""

CACHE_PIECES, CACHE_PIECE_LENGTH = 150_000, 64
"""Pieces in each of the two generations of a `CachingEncoder`'s cache (60 MB in all), and the longest piece kept."""


class Tokenizer:
    """A trained tokenizer. No text is encoded as the end-of-document token, not even the text of the token's name."""

    def __init__(self, inner: tokenizers.Tokenizer):
        end = inner.token_to_id(END_OF_DOCUMENT)
        if end is None:
            raise UsageError(f"the tokenizer lacks the token {END_OF_DOCUMENT}: use a tokenizer made by primer-search")
        inner.encode_special_tokens = True
        self._inner = inner
        self.end_of_document: int = end

    @staticmethod
    def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """Learn merges from texts until the vocabulary is full or every pair occurs only once.

        Args:
            texts: texts, read once in order.
            vocabulary: largest number of token ids.

        Raises:
            UsageError: the vocabulary is smaller than `SMALLEST_VOCABULARY`.
        """
        if vocabulary < SMALLEST_VOCABULARY:
            raise UsageError(f"model.vocabulary is {vocabulary}, but must be at least {SMALLEST_VOCABULARY}")
        from tokenizers import Tokenizer as Inner
        from tokenizers import decoders, models, pre_tokenizers, trainers

        inner = Inner(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=MIN_FREQUENCY,
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
            raise UsageError(f"the tokenizer cannot be read ({error}): prepare the data again") from error
        return Tokenizer(inner)

    def to_json(self) -> str:
        """Return the tokenizer in the JSON format of the `tokenizers` library."""
        return self._inner.to_str()

    @property
    def size(self) -> int:
        """Number of token ids, which is smaller than requested if the text had too few repeated pairs."""
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without an end-of-document token."""
        return self._inner.encode(text).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts."""
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids. The end-of-document token is written as its name."""
        return self._inner.decode(list(ids), skip_special_tokens=False)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of each token id as it arrives. A character is yielded once all its bytes have arrived.

        An extra last part holds incomplete bytes, so that all parts joined equal the result of `decode`.
        """
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            yield incremental.decode(self._bytes_of(token))
        if rest := incremental.decode(b"", final=True):
            yield rest

    def _bytes_of(self, token: int) -> bytes:
        written = self._inner.id_to_token(token) or ""
        return written.encode() if token == self.end_of_document else bytes(BYTE_OF_CHARACTER[one] for one in written)


class CachingEncoder:
    """Fast encoder for large texts: token ids of a NumPy type, with the end-of-document token after each text.

    BPE cuts text into pieces before merging, so a piece has the same ids everywhere. Most pieces occur many times, and
    looking up their ids in a cache is several times as fast as merging again. Outside ASCII, the cuts depend on
    Unicode's tables. Such text is therefore cut here only at single spaces, and the library cuts the parts further.
    """

    def __init__(self, tokenizer: Tokenizer, dtype: str):
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._end = np.array([tokenizer.end_of_document], dtype).tobytes()
        self._known: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def encode(self, contents: Iterable[bytes]) -> bytes:
        """Return the ids of texts in UTF-8, as the bytes of one array."""
        return b"".join(map(self._encode_one, contents))

    def _encode_one(self, content: bytes) -> bytes:
        pieces = _pieces(content.decode("utf-8", "replace"))
        ids = list(map(self._known.get, pieces))
        if None in ids:
            found = self._find({piece for piece, its_ids in zip(pieces, ids, strict=True) if its_ids is None})
            ids = [found[piece] if its_ids is None else its_ids for piece, its_ids in zip(pieces, ids, strict=True)]
        return b"".join(cast("list[bytes]", ids)) + self._end

    def _find(self, pieces: set[str]) -> dict[str, bytes]:
        """Return the ids of pieces: from the older generation of the cache, or else by one call of the library."""
        found = {piece: self._older[piece] for piece in pieces if piece in self._older}
        unknown = [piece for piece in pieces if piece not in found]
        for piece, ids in zip(unknown, self._tokenizer.encode_all(unknown), strict=True):
            found[piece] = np.array(ids, self._dtype).tobytes()
        if len(self._known) > CACHE_PIECES:  # start a new generation; pieces still in use move to it one by one
            self._older, self._known = self._known, {}
        self._known.update((piece, ids) for piece, ids in found.items() if len(piece) <= CACHE_PIECE_LENGTH)
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


def _byte_of_character() -> dict[str, int]:
    """Return the byte for each character in a token: itself in printable Latin-1, the other bytes from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printing))
    return {chr(byte): byte for byte in printing} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


BYTE_OF_CHARACTER = _byte_of_character()
"""Inverse of GPT-2's table that writes bytes as visible characters."""
