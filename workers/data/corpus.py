"""Corpus: a source as a sequence of portions, each small enough for memory.

Worker processes read and tokenize portions independently. `TextCorpus` is text that this process reads
(python-stdlib, text:PATH); its portions hold the text. `RecordCorpus` is a set of TensorFlow Datasets (TFDS); its
portions hold the positions of records, which the worker processes read. A corpus always has the same portions in the
same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

from ...primitives.errors import UsageError
from .text_sources import read_documents
from .tfds_sets import TfdsSet, is_tfds_source, load_set
from .user_text.documents import Documents

__all__ = ["Corpus", "Portion", "RecordCorpus", "TextCorpus", "open_corpus"]

PORTION_BYTES = 2 * 1024 * 1024
"""Approximate bytes of text in a portion."""

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class TextPortion:
    """Consecutive documents that are already in memory."""

    contents: tuple[bytes, ...]
    split: ClassVar[None] = None

    def read(self) -> list[bytes]:
        """Return the documents in UTF-8."""
        return list(self.contents)


@dataclass(frozen=True, slots=True)
class RecordPortion:
    """Records `start` to `stop` of a split of a TFDS set."""

    files: tuple[tuple[str, int], ...]
    feature: str
    split: str
    start: int
    stop: int

    def read(self) -> list[bytes]:
        """Return the documents in UTF-8."""
        from .tfds_builder import read_texts

        return read_texts(self.files, self.feature, self.start, self.stop)


Portion = TextPortion | RecordPortion
"""Consecutive documents. `split` is the split that the source itself assigns to them, or None."""


@dataclass(frozen=True)
class TextCorpus:
    """Text that this process reads: Python's standard library, or files of the user.

    Attributes:
        source: source as the user wrote it.
        identity: hexadecimal hash of the text.
        documents: number of documents.
        text_bytes: bytes of text.
        found: documents; each iteration reads them again.
        own_splits: splits that the source itself has. The other splits are taken from its train documents, or from all
            documents if it has no splits.
        has_sentences: whether every document is one sentence with spaces between words. Repeated sentences are kept.
    """

    source: str
    identity: str
    documents: int
    text_bytes: int
    found: Documents = field(repr=False)
    own_splits: ClassVar[frozenset[str]] = frozenset()
    has_sentences: ClassVar[bool] = False

    @staticmethod
    def from_source(source: str) -> TextCorpus:
        """Read all text of a source, to count and hash it."""
        found = read_documents(source)
        digest, count, size = blake2b(digest_size=DIGEST_BYTES), 0, 0
        for content in _contents(found):
            digest.update(_digest(content))
            count, size = count + 1, size + len(content)
        return TextCorpus(source, digest.hexdigest(), count, size, found)

    def portions(self) -> Iterator[Portion]:
        """Yield all documents in order.

        Raises:
            UsageError: the text has changed since `identity` was computed.
        """
        digest = blake2b(digest_size=DIGEST_BYTES)
        pending: list[bytes] = []
        size = 0
        for content in _contents(self.found):
            digest.update(_digest(content))
            pending.append(content)
            size += len(content)
            if size >= PORTION_BYTES:
                yield TextPortion(tuple(pending))
                pending, size = [], 0
        if digest.hexdigest() != self.identity:
            raise UsageError(f"data.source {self.source} changed while it was read: run again when it is complete")
        if pending:
            yield TextPortion(tuple(pending))


@dataclass(frozen=True)
class RecordCorpus:
    """Records of a TFDS set. Attributes are as in `TextCorpus`, but `text_bytes` is the size of the record files."""

    source: str
    identity: str
    documents: int
    text_bytes: int
    own_splits: frozenset[str]
    has_sentences: bool
    tfds_set: TfdsSet = field(repr=False)

    @staticmethod
    def from_set(found: TfdsSet) -> RecordCorpus:
        """Return the corpus of a TFDS set."""
        return RecordCorpus(
            found.source,
            found.identity,
            documents=sum(facts["documents"] for facts in found.splits.values()),
            text_bytes=sum(facts["bytes"] for facts in found.splits.values()),
            own_splits=frozenset(found.splits),
            has_sentences=found.set_name.startswith("lm1b/"),
            tfds_set=found,
        )

    def portions(self) -> Iterator[Portion]:
        """Yield all documents in order.

        Raises:
            UsageError: a file is missing.
        """
        for split, facts in self.tfds_set.splits.items():
            files = tuple((path, records) for path, records in facts["files"])
            missing = next((path for path, _ in files if not Path(path).is_file()), None)
            if missing is not None:
                remedy = f"run `primer-search data prepare {self.source}`"
                raise UsageError(f"data.source {self.source} lacks the file {missing}: {remedy}")
            total = facts["documents"]
            step = max(1, PORTION_BYTES * total // max(1, facts["bytes"]))
            for start in range(0, total, step):
                yield RecordPortion(files, self.tfds_set.feature, split, start, min(start + step, total))


Corpus = TextCorpus | RecordCorpus
"""Text that `prepare_dataset` turns into a dataset."""


def open_corpus(source: str, cache: Path) -> Corpus:
    """Return the corpus of a source.

    Raises:
        UsageError: the source does not exist, is unreadable, or is a TFDS set that was not prepared on this machine.
    """
    return RecordCorpus.from_set(load_set(source, cache)) if is_tfds_source(source) else TextCorpus.from_source(source)


def _contents(documents: Documents) -> Iterator[bytes]:
    for document in documents:
        yield document.text.encode("utf-8")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
