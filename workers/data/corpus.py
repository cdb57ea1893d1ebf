"""A source as a corpus: a sequence of portions, small enough to hold, that processes read and tokenize on their own.

`TextCorpus` is text this process reads (python-stdlib, text:PATH), whose portions carry the text. `RecordCorpus` is a
published set, whose portions say where the records are, so that the processes read them, too. The portions of a corpus
are always the same, and in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from ...primitives.errors import UsageError
from .text_sources import read_documents
from .tfds_sets import TfdsSet, is_tfds_source, load_set

__all__ = ["Corpus", "Portion", "RecordCorpus", "TextCorpus", "open_corpus"]

PORTION_BYTES = 2 * 1024 * 1024
DIGEST_BYTES = 16


class Portion(Protocol):
    """Some documents that follow one another."""

    @property
    def split(self) -> str | None:
        """The split that the source itself puts them in, if it has splits."""
        ...

    def read(self) -> list[bytes]:
        """Their texts in UTF-8."""
        ...


@dataclass(frozen=True, slots=True)
class TextPortion:
    """Documents that were read already."""

    contents: tuple[bytes, ...]
    split: None = None

    def read(self) -> list[bytes]:
        return list(self.contents)


@dataclass(frozen=True, slots=True)
class RecordPortion:
    """Records `start` to `stop` of a split."""

    files: tuple[tuple[str, int], ...]
    feature: str
    split: str
    start: int
    stop: int

    def read(self) -> list[bytes]:
        from .tfds_builder import read_texts

        return read_texts(self.files, self.feature, self.start, self.stop)


def open_corpus(source: str, cache: Path) -> TextCorpus | RecordCorpus:
    """The corpus of a source.

    Raises:
        UsageError: no such source, unreadable text, or a published set that was never prepared here.
    """
    return RecordCorpus.of(load_set(source, cache)) if is_tfds_source(source) else TextCorpus.of(source)


@dataclass(frozen=True)
class TextCorpus:
    """Text of this machine, read once to know it.

    Attributes:
        source: as the user writes it.
        identity: hexadecimal; other text, other identity.
        documents, text_bytes: how many there are.
        own_splits: splits that the source has itself; others are made from its train documents, or from all.
        sentences: every document is a sentence, in which words stand between spaces; none are copies.
    """

    source: str
    identity: str
    documents: int
    text_bytes: int
    own_splits: frozenset[str] = frozenset()
    sentences: bool = False

    @staticmethod
    def of(source: str) -> TextCorpus:
        """Read a source through."""
        digest, count, size = blake2b(digest_size=DIGEST_BYTES), 0, 0
        for content in _contents(source):
            digest.update(_digest(content))
            count, size = count + 1, size + len(content)
        return TextCorpus(source, digest.hexdigest(), count, size)

    def portions(self) -> Iterator[Portion]:
        """All documents, in order.

        Raises:
            UsageError: the text has changed since `identity` was computed.
        """
        digest = blake2b(digest_size=DIGEST_BYTES)
        held: list[bytes] = []
        size = 0
        for content in _contents(self.source):
            digest.update(_digest(content))
            held.append(content)
            size += len(content)
            if size >= PORTION_BYTES:
                yield TextPortion(tuple(held))
                held, size = [], 0
        if digest.hexdigest() != self.identity:
            raise UsageError(
                f"data.source {self.source} changed while it was being read: run again once it is complete."
            )
        if held:
            yield TextPortion(tuple(held))


@dataclass(frozen=True)
class RecordCorpus:
    """A published set's records; attributes as for `TextCorpus`, `text_bytes` being those of the files."""

    source: str
    identity: str
    documents: int
    text_bytes: int
    own_splits: frozenset[str]
    sentences: bool
    published: TfdsSet = field(repr=False)

    @staticmethod
    def of(published: TfdsSet) -> RecordCorpus:
        """The corpus of a set."""
        splits = published.splits
        return RecordCorpus(
            published.source,
            published.identity,
            sum(facts["documents"] for facts in splits.values()),
            sum(facts["bytes"] for facts in splits.values()),
            frozenset(splits),
            published.set_name.startswith("lm1b/"),
            published,
        )

    def portions(self) -> Iterator[Portion]:
        """All documents, in order.

        Raises:
            UsageError: a file is missing.
        """
        for split, facts in self.published.splits.items():
            files = tuple((path, records) for path, records in facts["files"])
            missing = next((path for path, _ in files if not Path(path).is_file()), None)
            if missing is not None:
                raise UsageError(
                    f"data.source {self.source}: {missing} is gone; run `primer-search data prepare {self.source}`."
                )
            total = facts["documents"]
            step = max(1, PORTION_BYTES * total // max(1, facts["bytes"]))
            for start in range(0, total, step):
                yield RecordPortion(files, self.published.feature, split, start, min(start + step, total))


Corpus = TextCorpus | RecordCorpus
"""A source that can be prepared."""


def _contents(source: str) -> Iterator[bytes]:
    for document in read_documents(source):
        yield document.text.encode("utf-8")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
