"""Text, prepared once: token ids in memory-mapped files, the tokenizer that made them, and a manifest with hashes.

    <cache>/<key>/  manifest.json  tokenizer.json  train.bin  validation.bin  test.bin

Training reads only this. The key hashes what the dataset is made from (text, tokenizer settings, format), the
`dataset_hash` what it is; results on different dataset hashes are not comparable. Documents follow one another in the
order of the source, each ended by the end-of-document token.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...primitives.errors import UsageError
from ...system.files import file_sha256, replace_folder, write_atomically
from ...system.locks import delete_unlocked_folder, lock_folder
from ..config import DataConfig
from .corpus import Corpus, RecordCorpus, open_corpus
from .dataset_builder import build
from .splits import SPLITS
from .text_sources import read_documents
from .tfds_sets import is_tfds_source, load_set
from .tokenizer import SMALLEST_VOCABULARY, Tokenizer

__all__ = ["FORMAT", "Dataset", "check_source", "default_cache_dir", "prepare_dataset"]

FORMAT = 3
"""Raise it when the same text and settings would give other files."""

FILES = ("manifest.json", "tokenizer.json", *(f"{split}.bin" for split in SPLITS))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A prepared dataset.

    Attributes:
        path: its folder.
        manifest: what manifest.json says; for each split documents, bytes, words, tokens, sha256 and bytes_per_token.
        train, validation, test: token ids, one stream a split, memory-mapped and read-only.
    """

    path: Path
    manifest: dict[str, Any]
    train: np.memmap
    validation: np.memmap
    test: np.memmap

    @staticmethod
    def open(path: Path | str, verify: bool = True) -> Dataset:
        """Open what `prepare_dataset` made.

        Args:
            path: the folder `prepare_dataset` returned.
            verify: read all files and compare their hashes; otherwise only their sizes.

        Raises:
            UsageError: the folder is no dataset, of another format, or damaged.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        try:
            _check_files(path, manifest, verify)
            streams = {split: np.memmap(_bin(path, split), dtype=manifest["dtype"], mode="r") for split in SPLITS}
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        return Dataset(path, manifest, **streams)

    @property
    def dataset_hash(self) -> str:
        """Of everything a result depends on: token ids, tokenizer, vocabulary; not of where the text came from."""
        return self.manifest["dataset_hash"]

    @property
    def vocabulary(self) -> int:
        """Number of token ids a model must embed: what was asked for, even where the tokenizer has learned fewer."""
        return self.manifest["vocabulary"]

    def bytes_per_token(self, split: str) -> float:
        """Bytes of text in a split over its tokens (end-of-document tokens are tokens, and no bytes)."""
        return self.manifest["splits"][split]["bytes_per_token"]

    def nats_per_token_to_bits_per_byte(self, loss_nats: float, split: str) -> float:
        """A loss in bits per byte of text, which compares across tokenizers.

        Uses the mean bytes per token of the whole split, whichever of its windows the loss was taken on.
        """
        return loss_nats / math.log(2.0) / self.bytes_per_token(split)

    def nats_per_token_to_word_perplexity(self, loss_nats: float, split: str) -> float | None:
        """A loss as perplexity per word, the unit of the One Billion Word benchmark; None where words mean little.

        That is exp(nats per token * tokens / words) over the whole split. Words are what stands between spaces, and one
        for the end of each document, as the benchmark counts a sentence's end; tokens include end-of-document tokens,
        so the model is charged for every end, too. None, too, for a loss whose exponential is no number.
        """
        counts = self.manifest["splits"][split]
        if not self.manifest["word_perplexity"]:
            return None
        nats_per_word = loss_nats * counts["tokens"] / counts["words"]
        return math.exp(nats_per_word) if nats_per_word < 700.0 else None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the token ids come from."""
        return Tokenizer.load(self.path / "tokenizer.json")


def default_cache_dir() -> Path:
    """`$PRIMER_SEARCH_CACHE/data`, or `~/.cache/primer-search/data`."""
    root = os.environ.get("PRIMER_SEARCH_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "primer-search") / "data"


def check_source(source: str) -> None:
    """Raise UsageError if a source cannot be prepared, as far as that shows at once; a published set was located."""
    if is_tfds_source(source):
        load_set(source, default_cache_dir())
    else:
        read_documents(source)


def prepare_dataset(
    data: DataConfig,
    vocabulary: int,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
    processes: int | None = None,
) -> Path:
    """Make a dataset, or find the one made before from the same text and settings.

    Safe to call from several processes at once: one builds and the others wait for it. A build that was interrupted or
    killed is taken up where it stopped, by the next call with the same text and settings.

    Args:
        data: the source, and how much of it the tokenizer learns from.
        vocabulary: number of token ids, at most.
        cache_dir: where datasets are kept; `default_cache_dir()` if not given.
        progress: told what happens, a line at a time; silent if the dataset is there, unless its name misleads.
        processes: how many tokenize; as the cores and the size of the text suggest, if not given.

    Returns:
        The dataset's folder, for `Dataset.open`.

    Raises:
        UsageError: the source cannot be read or is too little, the vocabulary too small, the cache not writable.
        WorkFailedError: a process that tokenizes died.
    """
    tell = progress or (lambda line: None)
    if vocabulary < SMALLEST_VOCABULARY:
        raise UsageError(f"model.vocabulary is {vocabulary}: give at least {SMALLEST_VOCABULARY}, a token a byte.")
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    corpus = open_corpus(data.source, cache)
    if warning := _warning(corpus):
        tell(warning)
    settings = [data.source, vocabulary, data.tokenizer_bytes, data.word_perplexity]
    target = cache / _hash([FORMAT, corpus.identity, *settings])
    hidden = f".{_hash(settings)[:12]}-"

    def waiting() -> None:
        tell(f"another process prepares {data.source}: waiting for it")

    try:
        while not _is_ready(target):
            with lock_folder(cache / f"{hidden}{target.name}.partial", waiting) as draft:
                if draft is not None and not _is_ready(target):
                    _delete_outdated(cache, hidden, draft)
                    if not _is_ready(draft):
                        _build(draft, data, vocabulary, corpus, tell, processes)
                    _publish(draft, target)
    except OSError as error:
        raise UsageError(
            f"The data cache {cache} cannot be written ({error}): make it writable and roomy, or"
            " set PRIMER_SEARCH_CACHE to another folder."
        ) from error
    return target


def _warning(corpus: Corpus) -> str:
    return corpus.published.warning if isinstance(corpus, RecordCorpus) else ""


def _hash(made_from: list[Any]) -> str:
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:24]


def _delete_outdated(cache: Path, hidden: str, draft: Path) -> None:
    """Delete what killed builds with these settings left of text that has changed since, or of older formats."""
    for folder in cache.glob(f"{hidden}*"):
        if folder != draft:
            delete_unlocked_folder(folder)


def _is_ready(target: Path) -> bool:
    if not target.exists():
        return False
    try:
        Dataset.open(target)
    except UsageError:
        return False
    return True


def _publish(draft: Path, target: Path) -> None:
    for file in draft.iterdir():
        if file.name not in FILES:
            file.unlink()
    replace_folder(draft, target)  # what is there is damaged


def _build(
    draft: Path,
    data: DataConfig,
    vocabulary: int,
    corpus: Corpus,
    tell: Callable[[str], None],
    processes: int | None,
) -> None:
    dtype = "<u2" if vocabulary <= 2**16 else "<u4"
    try:
        built = build(draft, corpus, data, vocabulary, dtype, tell, processes)
    except UsageError:  # of this text nothing comes: a later build could not go on with it
        shutil.rmtree(draft, ignore_errors=True)
        raise
    manifest = {
        "format": FORMAT,
        "source": data.source,
        **_origin(corpus),
        "content_hash": corpus.identity,
        "vocabulary": vocabulary,
        "tokenizer_size": built.tokenizer.size,
        "tokenizer_sha256": file_sha256(draft / "tokenizer.json"),
        "end_of_document": built.tokenizer.end_of_document,
        "dtype": dtype,
        "word_perplexity": data.word_perplexity or corpus.sentences,
        "splits": {
            split: {
                **built.splits[split],
                "sha256": file_sha256(_bin(draft, split)),
                "bytes_per_token": built.splits[split]["bytes"] / built.splits[split]["tokens"],
            }
            for split in SPLITS
        },
    }
    manifest["dataset_hash"] = _dataset_hash(manifest)
    write_atomically(draft / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    tokens = sum(counts["tokens"] for counts in built.splits.values())
    tell(f"prepared {tokens:,} tokens, {manifest['splits']['train']['bytes_per_token']:.2f} bytes each")


def _origin(corpus: Corpus) -> dict[str, Any]:
    """What a published set was made from, for the manifest."""
    if not isinstance(corpus, RecordCorpus):
        return {}
    found = corpus.published
    facts = {"set": found.set_name, "tfds_version": found.tfds_version, "feature": found.feature}
    return {**facts, "archive": found.archive, "published": not found.is_unofficial}


def _dataset_hash(manifest: dict[str, Any]) -> str:
    names = ("format", "vocabulary", "tokenizer_sha256", "end_of_document", "dtype", "splits", "word_perplexity")
    what_it_is = {name: manifest[name] for name in names}
    return hashlib.sha256(json.dumps(what_it_is, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} is not a prepared dataset (no readable manifest.json): run `primer-search data prepare`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "manifest.json is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{path} is no dataset of format {FORMAT}: prepare the data again with this version.")
    return manifest


def _check_files(path: Path, manifest: dict[str, Any], verify: bool) -> None:
    """Raise ValueError, LookupError, TypeError or OSError if the files are not what the manifest says."""
    if manifest["dataset_hash"] != _dataset_hash(manifest):
        raise ValueError("manifest.json was changed")
    if manifest["tokenizer_sha256"] != file_sha256(path / "tokenizer.json"):
        raise ValueError("tokenizer.json was changed")
    for split in SPLITS:
        described = manifest["splits"][split]
        if _bin(path, split).stat().st_size != described["tokens"] * np.dtype(manifest["dtype"]).itemsize:
            raise ValueError(f"{split}.bin has another size than the manifest says")
        if verify and described["sha256"] != file_sha256(_bin(path, split)):
            raise ValueError(f"{split}.bin was changed")


def _bin(path: Path, split: str) -> Path:
    return path / f"{split}.bin"


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"The dataset {path} is damaged ({why}): delete that folder and prepare the data again.")
