"""Dataset builder: a corpus becomes splits, a tokenizer and token ids, by several processes, in constant memory.

    <draft>/  places.bin       the split of each document, if the source lacks a split
              tokenizer.json   trained on a bounded sample of the train documents, the same every time
              *.bin            token ids, appended portion by portion in the order of the corpus

Each stage writes a `Journal`, so a build that was killed continues where it stopped and gives the same bytes. Memory
does not grow with the corpus. The exception is a source without splits: 100 bytes per document, in memory-mapped files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ...primitives.errors import UsageError
from ...system.durations import format_duration
from ...system.files import Journal, replacement, write_atomically
from ...system.host import usable_core_count
from ...system.process_pool import ProcessPool
from ..config import DataConfig
from .corpus import Corpus, Portion, RecordCorpus
from .near_duplicates import BANDS, cluster_labels
from .preprocessing_jobs import EncodeJob, ReadJob, SketchJob
from .splits import EXCLUDED, FILL_LIMIT, SPLITS, assign_splits, check_enough_text, exclude_repetitions, residue_counts
from .tokenizer import Tokenizer

__all__ = ["BuiltDataset", "build"]

INLINE_BYTES = 24_000_000
"""Smaller text is done before processes have started."""

PROCESS_BYTES = 8_000_000
"""The least text per process that is worth its start."""

MOST_PROCESSES = 6
"""Each takes 100 to 150 MB, so that all of them and this process stay under 1 GiB. `--processes` may ask for more."""

TELL_SECONDS = 10.0
MARKS = ("digests", "sizes", "keys", *(f"band{band}" for band in range(BANDS)))

COUNTS = ("documents", "bytes", "words", "tokens")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """The result of a build: documents, bytes, words and tokens of each split, and the tokenizer."""

    splits: dict[str, dict[str, int]]
    tokenizer: Tokenizer


def build(
    draft: Path, corpus: Corpus, data: DataConfig, vocabulary: int, dtype: str, tell: Tell, processes: int | None = None
) -> BuiltDataset:
    """Build a dataset in a folder, or continue an earlier build. The caller deletes the intermediate files.

    Args:
        draft: the folder, empty or as a killed build left it.
        corpus: the text.
        data: how much of it the tokenizer learns from.
        vocabulary: number of token ids, at most.
        dtype: of the ids.
        tell: given lines on the way.
        processes: how many work on it; as the cores and the size suggest if None.

    Raises:
        UsageError: the text changed while it was read, or is too little.
        WorkFailedError: a process died.
        OSError: the folder cannot be written.
    """
    with ProcessPool(_processes(corpus, processes)) as crew:
        builder = _Builder(draft, corpus, tell, crew)
        if not corpus.sentences and residue_counts(corpus.own_splits):
            builder.split()
        tokenizer = builder.train_tokenizer(data.tokenizer_bytes, vocabulary)
        splits = builder.encode(dtype)
    return BuiltDataset(splits, tokenizer)


def _processes(corpus: Corpus, asked: int | None) -> int:
    least = 1 if isinstance(corpus, RecordCorpus) else 0  # TFDS is never loaded where models may train
    if asked is not None:
        return max(least, asked)
    cores = usable_core_count()
    if corpus.text_bytes < INLINE_BYTES or cores == 1:
        return least
    return max(least, min(cores, MOST_PROCESSES, corpus.text_bytes // PROCESS_BYTES))


class _Builder:
    def __init__(self, draft: Path, corpus: Corpus, tell: Tell, crew: ProcessPool):
        self.draft, self.corpus, self.tell, self.crew = draft, corpus, tell, crew
        self.hold_out = corpus.sentences and "validation" not in corpus.own_splits
        self.places: np.memmap | None = None
        self.starts: list[int] = []

    def split(self) -> None:
        """Find each document's split, from sketches of all that are not in a split already."""
        with Journal(self.draft, "marks.json", [f"{name}.mark" for name in MARKS]) as journal:
            self._sketch_all(journal)
            counts = journal.state["counts"]
        self.starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        if not (self.draft / "places.bin").exists():
            self._write_places(counts)
        self.places = np.memmap(self.draft / "places.bin", np.uint8, "r")

    def _sketch_all(self, journal: Journal) -> None:
        if journal.state.get("done"):
            return
        counts: list[int] = list(journal.state.get("counts", ()))
        progress = _Progress("finding copies", self.corpus, self.tell, sum(counts))
        for sketched in self.crew.map(
            SketchJob(portion) for portion in islice(self.corpus.portions(), len(counts), None)
        ):
            columns = (sketched.digests, sketched.sizes, sketched.keys, *sketched.bands)
            for name, column in zip(MARKS, columns, strict=True):
                journal.append(f"{name}.mark", column)
            counts.append(sketched.documents)
            journal.commit({"counts": counts})
            progress.add(sketched.documents, int(np.frombuffer(sketched.sizes, "<u8").sum()))
        journal.commit({"counts": counts, "done": True})

    def _write_places(self, counts: list[int]) -> None:
        if not sum(counts):
            check_enough_text(self.corpus.source, 0, 0)
        marks = {name: np.memmap(self.draft / f"{name}.mark", "<u8", "r+") for name in MARKS}
        own = self._own_places(counts)
        labels, sizes = marks["keys"], marks["sizes"]
        if own is None:
            check_enough_text(self.corpus.source, *_distinct(marks["digests"], sizes))
        # Labels are only ever lowered to the least of their copies', so a kill in between does no harm.
        cluster_labels(labels, [marks[f"band{band}"] for band in range(BANDS)])
        wanted = residue_counts(self.corpus.own_splits)
        if own is None:
            places = exclude_repetitions(assign_splits(labels, sizes, wanted), marks["digests"])
        else:
            counted = sizes if len(sizes) > FILL_LIMIT else np.where(own == 0, sizes, 0)
            places = np.where(own == 0, assign_splits(labels, counted, wanted), own)
        places[np.asarray(sizes) == 0] = EXCLUDED
        with replacement(self.draft / "places.bin") as temporary:
            places.tofile(temporary)

    def _own_places(self, counts: list[int]) -> np.ndarray | None:
        if not self.corpus.own_splits:
            return None
        splits = [SPLITS.index(portion.split or "train") for portion in self.corpus.portions()]
        return np.repeat(np.array(splits, np.uint8), counts)

    def train_tokenizer(self, most_bytes: int, vocabulary: int) -> Tokenizer:
        """Train on a sample of train text, or load what an earlier build trained."""
        path = self.draft / "tokenizer.json"
        if path.exists():
            return Tokenizer.load(path)
        what = "MB of records" if isinstance(self.corpus, RecordCorpus) else "MB"
        self.tell(
            f"preparing {self.corpus.source}: {self.corpus.documents:,} documents,"
            f" {self.corpus.text_bytes / 1e6:,.1f} {what}; training the tokenizer"
        )
        tokenizer = Tokenizer.train(_up_to(self._sample(most_bytes), most_bytes), vocabulary)
        if tokenizer.size < vocabulary:
            self.tell(f"the text gave {tokenizer.size} tokens of the {vocabulary} asked for; the other ids stay unused")
        write_atomically(path, tokenizer.to_json())
        return tokenizer

    def _sample(self, most_bytes: int) -> Iterator[bytes]:
        """Train text from all over the corpus: some portions of records, or a part of every other document."""
        share = max(1, int(0.9 * self.corpus.text_bytes / most_bytes))
        every, part = (share, 1) if isinstance(self.corpus, RecordCorpus) else (1, share)
        reads = (
            ReadJob(portion, self._places_of(number), self.hold_out, part)
            for number, portion in self._numbered(0, every)
        )
        for texts in self.crew.map(reads):
            yield from texts

    def encode(self, dtype: str) -> dict[str, dict[str, int]]:
        """Write every document's ids to its split's file; documents, bytes, words and tokens of each split."""
        with Journal(self.draft, "tokens.json", [f"{split}.bin" for split in SPLITS]) as journal:
            totals: dict[str, dict[str, int]] = journal.state.get("totals") or {
                split: dict.fromkeys(COUNTS, 0) for split in SPLITS
            }
            done = journal.state.get("portions", 0)
            if done:
                self.tell(f"going on with {self.corpus.source} where an earlier build stopped")
            progress = _Progress("tokenizing", self.corpus, self.tell, _total(totals, "documents"))
            jobs = (
                EncodeJob(portion, self._places_of(number), self.hold_out, self.draft / "tokenizer.json", dtype)
                for number, portion in self._numbered(done, 1)
            )
            for encoded in self.crew.map(jobs):
                for split, part in encoded.items():
                    journal.append(f"{split}.bin", part.ids)
                    counted = (part.documents, part.text_bytes, part.words, part.tokens)
                    for name, count in zip(totals[split], counted, strict=True):
                        totals[split][name] += count
                done += 1
                journal.commit({"portions": done, "totals": totals})
                progress.add(
                    sum(part.documents for part in encoded.values()), sum(part.text_bytes for part in encoded.values())
                )
        check_enough_text(self.corpus.source, _total(totals, "documents"), _total(totals, "bytes"))
        empty = next((split for split in SPLITS if not totals[split]["documents"]), None)
        if empty is not None:
            raise UsageError(f"data.source {self.corpus.source} leaves no text for {empty}: give a larger set.")
        return totals

    def _numbered(self, start: int, every: int) -> Iterator[tuple[int, Portion]]:
        return islice(enumerate(self.corpus.portions()), start, None, every)

    def _places_of(self, number: int) -> bytes | None:
        if self.places is None:
            return None
        return self.places[self.starts[number] : self.starts[number + 1]].tobytes()


class _Progress:
    """Says every ten seconds how far a stage is, how fast, and how long it will take."""

    def __init__(self, stage: str, corpus: Corpus, tell: Tell, documents: int):
        self._stage, self._corpus, self._tell = stage, corpus, tell
        self._documents, self._first = documents, documents
        self._bytes = 0
        self._started = self._told = time.monotonic()

    def add(self, documents: int, text_bytes: int) -> None:
        """Count what was done."""
        self._documents += documents
        self._bytes += text_bytes
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        seconds = now - self._started
        left = seconds * (self._corpus.documents - self._documents) / max(1, self._documents - self._first)
        self._tell(
            f"{self._stage}: {self._documents:,} of {self._corpus.documents:,} documents,"
            f" {self._bytes / 1e6 / seconds:.1f} MB/s, {format_duration(left)} left"
        )


def _distinct(digests: np.memmap, sizes: np.memmap) -> tuple[int, int]:
    """How many different documents there are that are not blank, and their bytes; of the first `FILL_LIMIT`."""
    _, first = np.unique(digests[:FILL_LIMIT], return_index=True)
    held = sizes[first]
    return int(np.count_nonzero(held)), int(held.sum())


def _up_to(contents: Iterator[bytes], most_bytes: int) -> Iterator[str]:
    """Texts of so many bytes in all; a cut can fall inside a character, whose bytes are then left out."""
    left = most_bytes
    for content in contents:
        if left <= 0:
            return
        yield content[:left].decode("utf-8", errors="ignore")
        left -= len(content)


def _total(totals: dict[str, dict[str, int]], name: str) -> int:
    return sum(counts[name] for counts in totals.values())
