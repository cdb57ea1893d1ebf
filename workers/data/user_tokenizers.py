"""Tokenizers given by the user: a `tokenizer.json` of the `tokenizers` library, or plain ids for data without text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...primitives.errors import UsageError
from ...system.user_folders import user_path
from .tokenizer import END_OF_DOCUMENT, CachingEncoder, Tokenizer

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "PREFIX",
    "AnyTokenizer",
    "DocumentEncoder",
    "ForeignTokenizer",
    "IdTokenizer",
    "encode_documents",
    "load_user_tokenizer",
    "read_tokenizer",
]

PREFIX = "hf-tokenizer:"
"""Start of the setting `data.tokenizer`, before the path of a `tokenizer.json`."""

END_NAMES = (
    *("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>", "<|im_end|>", "[EOS]", "[SEP]"),
    *("<|end|>", "<end_of_text>", "<eod>"),
)
"""Tokens that other tokenizers put at the end of a document, in the order in which they are tried."""


class ForeignTokenizer:
    """A tokenizer that was not trained by this package. It is used like a `Tokenizer`, and adds no special tokens."""

    def __init__(self, inner: tokenizers.Tokenizer):
        ends = [token for name in END_NAMES if (token := inner.token_to_id(name)) is not None]
        if not ends:
            raise UsageError(
                f"the tokenizer has no token for the end of a document: add one named {', '.join(END_NAMES[:4])}"
            )
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self.end_of_document: int = ends[0]

    @property
    def size(self) -> int:
        """One more than the largest token id."""
        return max(self._inner.get_vocab(with_added_tokens=True).values()) + 1

    def to_json(self) -> str:
        """Return the tokenizer in the JSON format of the `tokenizers` library."""
        return self._inner.to_str()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without an end-of-document token."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts."""
        return [found.ids for found in self._inner.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text as token ids arrive, special tokens included."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=False)
        for token in ids:
            if (text := stream.step(self._inner, token)) is not None:
                yield text


class IdTokenizer:
    """Tokenizer of ids without text. Prompts and generated output are numbers with spaces between them."""

    end_of_document = -1
    """No token id: nothing marks the end of a document."""

    def __init__(self, size: int):
        self.size = size

    def to_json(self) -> str:
        """Return a JSON object that `read_tokenizer` reads."""
        return json.dumps({"token_ids": self.size})

    def encode(self, text: str) -> list[int]:
        """Return the ids that a text lists; an empty text gives the id 0."""
        words = text.split() or ["0"]
        if not all(word.isdigit() and int(word) < self.size for word in words):
            raise UsageError(f"the data has token ids without text: give a prompt of ids from 0 to {self.size - 1}")
        return [int(word) for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the ids with spaces between them."""
        return " ".join(map(str, ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the ids as they arrive, each after a space."""
        return (f" {token}" for token in ids)


AnyTokenizer = Tokenizer | ForeignTokenizer | IdTokenizer
"""Tokenizer of a dataset or of a model."""


def read_tokenizer(text: str) -> AnyTokenizer:
    """Return the tokenizer of the JSON text that lies in a dataset or next to weights.

    Raises:
        UsageError: the text is not a tokenizer.
    """
    try:
        fields = json.loads(text)
        if isinstance(fields, dict) and "token_ids" in fields:
            return IdTokenizer(int(fields["token_ids"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"the tokenizer cannot be read ({error}): prepare the data again") from error
    from tokenizers import Tokenizer as Inner

    try:
        inner = Inner.from_str(text)
    except Exception as error:
        raise UsageError(f"the tokenizer cannot be read ({error}): give a tokenizer.json") from error
    return Tokenizer(inner) if inner.token_to_id(END_OF_DOCUMENT) is not None else ForeignTokenizer(inner)


def load_user_tokenizer(setting: str, vocabulary: int) -> Tokenizer | ForeignTokenizer:
    """Return the tokenizer of the setting `data.tokenizer`.

    Args:
        setting: `hf-tokenizer:PATH`, the path of a `tokenizer.json`.
        vocabulary: number of token ids that the model embeds.

    Raises:
        UsageError: the file is missing, is not a tokenizer, or has more ids than the model.
    """
    name = setting.removeprefix(PREFIX)
    if not setting.startswith(PREFIX) or not name:
        raise UsageError(f"data.tokenizer {setting!r} must be hf-tokenizer:PATH, the path of a tokenizer.json")
    path = user_path(name)
    try:
        text = (path / "tokenizer.json" if path.is_dir() else path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"data.tokenizer {setting} cannot be read: {error}; give a tokenizer.json") from None
    try:
        tokenizer = read_tokenizer(text)
    except UsageError as error:
        raise UsageError(f"data.tokenizer {setting}: {error}") from None
    if isinstance(tokenizer, IdTokenizer):
        raise UsageError(f"data.tokenizer {setting} has no text: give a tokenizer.json of the tokenizers library")
    if tokenizer.size > vocabulary:
        raise UsageError(
            f"data.tokenizer {setting} has {tokenizer.size} ids, more than model.vocabulary = {vocabulary}: "
            f"set model.vocabulary={tokenizer.size}"
        )
    return tokenizer


class DocumentEncoder:
    """Encoder of a foreign tokenizer: ids of a NumPy type, with the end-of-document token after each text."""

    def __init__(self, tokenizer: ForeignTokenizer, dtype: str):
        self._tokenizer, self._dtype = tokenizer, dtype

    def encode(self, contents: Iterable[bytes]) -> bytes:
        """Return the ids of texts in UTF-8, as the bytes of one array."""
        texts = [content.decode("utf-8", "replace") for content in contents]
        end = [self._tokenizer.end_of_document]
        return b"".join(np.array(ids + end, self._dtype).tobytes() for ids in self._tokenizer.encode_all(texts))


def encode_documents(tokenizer: AnyTokenizer, dtype: str) -> CachingEncoder | DocumentEncoder:
    """Return the encoder of a tokenizer."""
    if isinstance(tokenizer, ForeignTokenizer):
        return DocumentEncoder(tokenizer, dtype)
    assert isinstance(tokenizer, Tokenizer), "ids without text are not encoded"
    return CachingEncoder(tokenizer, dtype)
