"""Token ids given by the user: `tokens:PATH[?vocabulary=N]`, a NumPy array of ids without text.

The array is a `.npy` file of integers: one long stream, or rows of equal length, which are joined in order. It is
memory-mapped and copied chunk by chunk. The last 5% (of the ids, or of the rows) are held out: half for validation,
half for test. Losses are in nats per token; with a tokenizer (`data.tokenizer`), the ids are decoded to count bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ...primitives.errors import UsageError
from ...system.files import replacement, write_atomically
from ...system.user_folders import user_path
from .splits import SPLITS
from .user_tokenizers import AnyTokenizer, IdTokenizer

__all__ = ["TokenArray", "is_token_source", "open_tokens", "write_token_splits"]

PREFIX = "tokens:"
HELD_OUT = 0.025
"""Share of the ids in each of validation and test."""

CHUNK = 1 << 20
SMALLEST = 1000
"""Smallest number of ids."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenArray:
    """A file of token ids.

    Attributes:
        source: source as the user wrote it.
        ids: memory-mapped array, `[ids]` or `[rows, ids]`.
        vocabulary: size of the vocabulary that the user gave; None if not given.
    """

    source: str
    ids: np.ndarray
    vocabulary: int | None

    @property
    def row(self) -> int:
        """Number of ids in a row, which belong to one split; 1 for one long stream."""
        return self.ids.shape[1] if self.ids.ndim == 2 else 1

    def identity(self) -> str:
        """Return a hash of shape, type and ids."""
        digest = blake2b(f"{self.ids.shape}{self.ids.dtype.str}".encode(), digest_size=16)
        for chunk in self.chunks(0, self.ids.size):
            digest.update(chunk.tobytes())
        return digest.hexdigest()

    def chunks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the ids of the joined rows from `start` to `stop` (exclusive), in chunks."""
        flat = self.ids.reshape(-1)
        for place in range(start, stop, CHUNK):
            yield flat[place : min(place + CHUNK, stop)]

    def bounds(self) -> list[tuple[int, int]]:
        """Return the start and the end (exclusive) of each split: train, validation, test."""
        rows = self.ids.size // self.row
        held = max(1, int(HELD_OUT * rows))
        ends = [self.row * end for end in (rows - 2 * held, rows - held, rows)]
        return list(zip([0, *ends[:-1]], ends, strict=True))


def is_token_source(source: str) -> bool:
    """Return whether a source is an array of token ids."""
    return source.startswith(PREFIX)


def open_tokens(source: str) -> TokenArray:
    """Open the array of a source.

    A file of the same name that ends with `.json` instead of `.npy` may hold `{"vocabulary": N}`.

    Raises:
        UsageError: the file is missing, is not an array of ids, or is too short; the vocabulary is not a number.
    """
    name, _, options = source.removeprefix(PREFIX).partition("?")
    path = user_path(name)
    if path.suffix != ".npy" or not path.is_file():
        raise UsageError(f"data.source {source} is not a .npy file: give the path of a NumPy array of token ids")
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"data.source {source} cannot be read as a NumPy array: {error}") from None
    if not np.issubdtype(ids.dtype, np.integer) or ids.ndim not in (1, 2):
        raise UsageError(
            f"data.source {source} is an array of {ids.dtype} with {ids.ndim} axes, but must hold integers in one or "
            "two axes: save token ids as [ids] or [rows, ids]"
        )
    if ids.size < SMALLEST or len(ids) < len(SPLITS):
        raise UsageError(
            f"data.source {source} has {ids.size} ids: use at least {SMALLEST}, and at least {len(SPLITS)} rows"
        )
    return TokenArray(source, ids, _vocabulary(source, path, options))


def write_token_splits(
    folder: Path, tokens: TokenArray, vocabulary: int, dtype: str, tokenizer: AnyTokenizer | None
) -> tuple[dict[str, dict[str, int]], AnyTokenizer]:
    """Write the ids of each split and the tokenizer; return the counts of each split, and the tokenizer.

    Args:
        folder: folder of the dataset.
        tokens: array of ids.
        vocabulary: number of ids that the model embeds.
        dtype: NumPy type of the files.
        tokenizer: tokenizer of the ids; None if the ids have no text.

    Raises:
        UsageError: an id is negative or too large, or the vocabulary differs from the array's.
    """
    if tokens.vocabulary is not None and tokens.vocabulary > vocabulary:
        raise UsageError(
            f"data.source {tokens.source} has a vocabulary of {tokens.vocabulary}, more than model.vocabulary = "
            f"{vocabulary}: set model.vocabulary={tokens.vocabulary}"
        )
    most = tokens.vocabulary or vocabulary
    splits = {}
    for split, (start, stop) in zip(SPLITS, tokens.bounds(), strict=True):
        text_bytes = 0
        with replacement(folder / f"{split}.bin") as temporary, temporary.open("wb") as file:
            for chunk in tokens.chunks(start, stop):
                _check_range(tokens.source, chunk, most)
                file.write(chunk.astype(dtype).tobytes())
                text_bytes += 0 if tokenizer is None else len(tokenizer.decode(chunk.tolist()).encode())
        splits[split] = {
            "documents": (stop - start) // tokens.row if tokens.row > 1 else 1,
            "bytes": text_bytes,
            "words": 0,
            "tokens": stop - start,
        }
    used = tokenizer or IdTokenizer(most)
    write_atomically(folder / "tokenizer.json", used.to_json())
    return splits, used


def _check_range(source: str, ids: np.ndarray, vocabulary: int) -> None:
    low, high = int(ids.min()), int(ids.max())
    if low < 0:
        raise UsageError(f"data.source {source} holds the id {low}: token ids start at 0")
    if high >= vocabulary:
        raise UsageError(
            f"data.source {source} holds the id {high}, but the vocabulary has only {vocabulary} ids: give a larger "
            "vocabulary, as model.vocabulary and as tokens:PATH?vocabulary=N"
        )


def _vocabulary(source: str, path: Path, options: str) -> int | None:
    """Return the vocabulary given by the source or by the JSON file next to the array; None if neither gives one."""
    description = path.with_suffix(".json")
    given: Any = None
    if options:
        name, _, given = options.partition("=")
        if name != "vocabulary" or not given.isdigit():
            raise UsageError(f"data.source {source} must end with ?vocabulary=N, or with the name of the file")
        given = int(given)
    elif description.is_file():
        try:
            given = json.loads(description.read_text(encoding="utf-8")).get("vocabulary")
        except (OSError, ValueError, AttributeError):
            raise UsageError(f'{description} must hold a JSON object such as {{"vocabulary": 1024}}') from None
    if given is not None and (type(given) is not int or given < 1):
        raise UsageError(f"the vocabulary of data.source {source} is {given!r}, but must be a positive integer")
    return given
