"""Dataset builder: several processes turn a corpus into splits, a tokenizer and token ids, in constant memory.

    <folder>/  split_ids.bin    split of each document, if they are assigned to splits here
               tokenizer.json   trained on a limited, reproducible sample of the train documents
               *.bin            token ids, appended portion by portion in the order of the corpus

Each stage writes a `Journal`, so a build that was killed continues where it stopped and gives the same bytes. Memory
does not grow with the corpus, with one exception: if a source lacks a split (and is not a set of sentences), its
documents are assigned to splits by means of memory-mapped files of 100 bytes per document.
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
from .splits import (
    EXCLUDED,
    FILL_LIMIT,
    SPLITS,
    assign_splits,
    check_enough_groups,
    check_enough_text,
    exclude_repetitions,
    residue_counts,
)
from .tokenizer import Tokenizer
from .user_tokenizers import AnyTokenizer, load_user_tokenizer, read_tokenizer

__all__ = ["BuiltDataset", "Log", "build_dataset"]

INLINE_BYTES = 24_000_000
"""Text below this size is processed in this process, which takes less time than starting other processes."""

PROCESS_BYTES = 8_000_000
"""Smallest amount of text for which it pays to start another process."""

MAX_PROCESSES = 6
"""Default limit of worker processes. Each process takes 100 to 150 MB, so all together take less than 1 GiB."""

PROGRESS_SECONDS = 10.0
COLUMNS = ("digests", "sizes", "keys", *(f"band{band}" for band in range(BANDS)))
COUNTS = ("documents", "bytes", "words", "tokens")

Log = Callable[[str], None]
"""Receives one line of progress."""


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """The tokenizer, and the documents, bytes, words and tokens of each split."""

    splits: dict[str, dict[str, int]]
    tokenizer: AnyTokenizer


def build_dataset(
    folder: Path, corpus: Corpus, data: DataConfig, vocabulary: int, dtype: str, log: Log, processes: int | None = None
) -> BuiltDataset:
    """Build a dataset in a folder, or continue a killed build. The caller deletes the intermediate files.

    Args:
        folder: folder of the dataset: empty, or with the files of the killed build.
        corpus: text.
        data: settings of the tokenizer.
        vocabulary: largest number of token ids.
        dtype: NumPy type of the ids.
        log: callback that receives lines of progress.
        processes: number of worker processes; None: chosen by the number of cores and the size of the text.

    Raises:
        UsageError: the text changed while it was read, or is too short.
        WorkFailedError: a worker process died.
        OSError: the folder cannot be written.
    """
    with ProcessPool(_process_count(corpus, processes)) as pool:
        builder = _Builder(folder, corpus, log, pool)
        if not corpus.has_sentences and set(SPLITS) - {"train"} - corpus.own_splits:
            builder.split()
        tokenizer = builder.make_tokenizer(data, vocabulary)
        splits = builder.encode(dtype)
    return BuiltDataset(splits, tokenizer)


def _process_count(corpus: Corpus, requested: int | None) -> int:
    least = 1 if isinstance(corpus, RecordCorpus) else 0  # TFDS is never loaded where models may train
    if requested is not None:
        return max(least, requested)
    cores = usable_core_count()
    if corpus.text_bytes < INLINE_BYTES or cores == 1:
        return least
    return max(least, min(cores, MAX_PROCESSES, corpus.text_bytes // PROCESS_BYTES))


class _Builder:
    """Stages of a build. They share the folder and the positions of portions."""

    def __init__(self, folder: Path, corpus: Corpus, log: Log, pool: ProcessPool):
        self.folder, self.corpus, self.log, self.pool = folder, corpus, log, pool
        self.hold_out = corpus.has_sentences and "validation" not in corpus.own_splits
        self.split_ids: np.memmap | None = None
        self.portion_starts: list[int] = []

    def split(self) -> None:
        """Assign each document to a split, based on sketches of all documents."""
        with Journal(self.folder, "sketches.json", [f"{name}.sketch" for name in COLUMNS]) as journal:
            self._sketch_all(journal)
            counts = journal.state["counts"]
        self.portion_starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        if not (self.folder / "split_ids.bin").exists():
            self._write_split_ids(counts)
        self.split_ids = np.memmap(self.folder / "split_ids.bin", np.uint8, "r")

    def _sketch_all(self, journal: Journal) -> None:
        if journal.state.get("done"):
            return
        counts: list[int] = list(journal.state.get("counts", ()))
        progress = _Progress("finding copies", self.corpus, self.log, sum(counts))
        portions = islice(self.corpus.portions(), len(counts), None)
        for sketch in self.pool.map(SketchJob(portion) for portion in portions):
            columns = (sketch.digests, sketch.sizes, sketch.keys, *sketch.bands)
            for name, column in zip(COLUMNS, columns, strict=True):
                journal.append(f"{name}.sketch", column)
            counts.append(sketch.documents)
            journal.commit({"counts": counts})
            progress.add(sketch.documents, int(np.frombuffer(sketch.sizes, "<u8").sum()))
        journal.commit({"counts": counts, "done": True})

    def _write_split_ids(self, counts: list[int]) -> None:
        if not sum(counts):
            check_enough_text(self.corpus.source, 0, 0)
        columns = {name: np.memmap(self.folder / f"{name}.sketch", "<u8", "r+") for name in COLUMNS}
        own = self._own_split_ids(counts)
        labels, sizes = columns["keys"], columns["sizes"]
        if own is None:
            check_enough_text(self.corpus.source, *_count_distinct(columns["digests"], sizes))
        # A build that was killed during this step can repeat it: labels only decrease, to the smallest key of copies.
        cluster_labels(labels, [columns[f"band{band}"] for band in range(BANDS)])
        if own is None:
            check_enough_groups(self.corpus.source, labels, sizes)
        shares = residue_counts(self.corpus.own_splits, len(labels))
        if own is None:
            split_ids = exclude_repetitions(assign_splits(labels, sizes, shares), columns["digests"])
        else:
            counted = sizes if len(sizes) > FILL_LIMIT else np.where(own == 0, sizes, 0)
            split_ids = np.where(own == 0, assign_splits(labels, counted, shares), own)
        split_ids[np.asarray(sizes) == 0] = EXCLUDED
        with replacement(self.folder / "split_ids.bin") as temporary:
            split_ids.tofile(temporary)

    def _own_split_ids(self, counts: list[int]) -> np.ndarray | None:
        if not self.corpus.own_splits:
            return None
        splits = [SPLITS.index(portion.split or "train") for portion in self.corpus.portions()]
        return np.repeat(np.array(splits, np.uint8), counts)

    def make_tokenizer(self, data: DataConfig, vocabulary: int) -> AnyTokenizer:
        """Return the tokenizer: that of a killed build, the user's, or one trained on a sample of train text."""
        path, most_bytes = self.folder / "tokenizer.json", data.tokenizer_bytes
        if path.exists():
            return read_tokenizer(path.read_text(encoding="utf-8"))
        if data.tokenizer:
            found = load_user_tokenizer(data.tokenizer, vocabulary)
            write_atomically(path, found.to_json())
            return found
        unit = "MB of records" if isinstance(self.corpus, RecordCorpus) else "MB"
        size = f"{self.corpus.documents:,} documents, {self.corpus.text_bytes / 1e6:,.1f} {unit}"
        self.log(f"preparing {self.corpus.source}: {size}; training the tokenizer")
        tokenizer = Tokenizer.train(_truncated(self._sample(most_bytes), most_bytes), vocabulary)
        if tokenizer.size < vocabulary:
            self.log(f"the tokenizer learned only {tokenizer.size} of {vocabulary} tokens; other ids stay unused")
        write_atomically(path, tokenizer.to_json())
        return tokenizer

    def _sample(self, most_bytes: int) -> Iterator[bytes]:
        """Yield train text from the whole corpus: every n-th portion of records, or an n-th part of each document."""
        share = max(1, int(0.9 * self.corpus.text_bytes / most_bytes))
        every, parts = (share, 1) if isinstance(self.corpus, RecordCorpus) else (1, share)
        jobs = (
            ReadJob(portion, self._portion_split_ids(number), self.hold_out, parts)
            for number, portion in self._numbered(0, every)
        )
        for texts in self.pool.map(jobs):
            yield from texts

    def encode(self, dtype: str) -> dict[str, dict[str, int]]:
        """Write the ids of every document to the file of its split; return the counts of each split."""
        with Journal(self.folder, "tokens.json", [f"{split}.bin" for split in SPLITS]) as journal:
            totals: dict[str, dict[str, int]] = journal.state.get("totals") or {
                split: dict.fromkeys(COUNTS, 0) for split in SPLITS
            }
            done = journal.state.get("portions", 0)
            if done:
                self.log(f"continuing {self.corpus.source} where an earlier build stopped")
            progress = _Progress("tokenizing", self.corpus, self.log, _total(totals, "documents"))
            jobs = (
                EncodeJob(
                    portion, self._portion_split_ids(number), self.hold_out, self.folder / "tokenizer.json", dtype
                )
                for number, portion in self._numbered(done, 1)
            )
            for encoded in self.pool.map(jobs):
                for split, part in encoded.items():
                    journal.append(f"{split}.bin", part.ids)
                    counted = (part.documents, part.text_bytes, part.words, part.tokens)
                    for name, count in zip(COUNTS, counted, strict=True):
                        totals[split][name] += count
                done += 1
                journal.commit({"portions": done, "totals": totals})
                progress.add(
                    sum(part.documents for part in encoded.values()), sum(part.text_bytes for part in encoded.values())
                )
        check_enough_text(self.corpus.source, _total(totals, "documents"), _total(totals, "bytes"))
        empty = next((split for split in SPLITS if not totals[split]["documents"]), None)
        if empty is not None:
            raise UsageError(f"data.source {self.corpus.source} leaves the split {empty} empty: use a larger set")
        return totals

    def _numbered(self, start: int, every: int) -> Iterator[tuple[int, Portion]]:
        return islice(enumerate(self.corpus.portions()), start, None, every)

    def _portion_split_ids(self, number: int) -> bytes | None:
        if self.split_ids is None:
            return None
        return self.split_ids[self.portion_starts[number] : self.portion_starts[number + 1]].tobytes()


class _Progress:
    """Logs the progress of a stage every ten seconds: documents, speed and remaining time."""

    def __init__(self, stage: str, corpus: Corpus, log: Log, documents: int):
        self._stage, self._total, self._log = stage, corpus.documents, log
        self._documents, self._first = documents, documents
        self._bytes = 0
        self._started = self._logged = time.monotonic()

    def add(self, documents: int, text_bytes: int) -> None:
        """Count finished documents."""
        self._documents += documents
        self._bytes += text_bytes
        now = time.monotonic()
        if now - self._logged < PROGRESS_SECONDS:
            return
        self._logged = now
        seconds = now - self._started
        left = seconds * (self._total - self._documents) / max(1, self._documents - self._first)
        self._log(
            f"{self._stage}: {self._documents:,} of {self._total:,} documents,"
            f" {self._bytes / 1e6 / seconds:.1f} MB/s, {format_duration(left)} left"
        )


def _count_distinct(digests: np.memmap, sizes: np.memmap) -> tuple[int, int]:
    """Count the distinct documents that are not blank, and their bytes, among the first `FILL_LIMIT`."""
    _, first = np.unique(digests[:FILL_LIMIT], return_index=True)
    distinct = sizes[first]
    return int(np.count_nonzero(distinct)), int(distinct.sum())


def _truncated(contents: Iterator[bytes], most_bytes: int) -> Iterator[str]:
    """Yield texts up to `most_bytes` in total. Bytes of an incomplete character at a cut are dropped."""
    left = most_bytes
    for content in contents:
        if left <= 0:
            return
        yield content[:left].decode("utf-8", errors="ignore")
        left -= len(content)


def _total(totals: dict[str, dict[str, int]], name: str) -> int:
    return sum(counts[name] for counts in totals.values())
