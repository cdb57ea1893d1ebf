"""Prepared datasets: token ids in memory-mapped files, their tokenizer, and a manifest with hashes.

    <cache>/<key>/  manifest.json  tokenizer.json  train.bin  validation.bin  test.bin

Training reads only these files. The key is a hash of the inputs (text, tokenizer settings, format). The `dataset_hash`
is a hash of the content. Results on datasets with different dataset hashes are not comparable. Documents of text keep
the order of the source, and each ends with the end-of-document token.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...primitives.errors import UsageError
from ...system.files import file_sha256, replace_folder, write_atomically
from ...system.locks import delete_unlocked_folder, lock_folder
from ...system.user_folders import cache_folder
from ..config import DataConfig
from .corpus import Corpus, RecordCorpus, TextCorpus, open_corpus
from .dataset_builder import BuiltDataset, Log, build_dataset
from .splits import SPLITS, warn_of_large_splits
from .text_sources import read_documents
from .tfds_sets import cache_errors, is_tfds_source, load_set
from .token_sources import TokenArray, is_token_source, open_tokens, write_token_splits
from .user_text.documents import format_left_out
from .user_tokenizers import AnyTokenizer, load_user_tokenizer, read_tokenizer

__all__ = ["FORMAT", "Dataset", "check_source", "default_cache_dir", "find_prepared_dataset", "prepare_dataset"]

FORMAT = 4
"""Version of the file format. Raise it whenever the same text and settings would give other files."""

FILES = ("manifest.json", "tokenizer.json", *(f"{split}.bin" for split in SPLITS))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A prepared dataset.

    Attributes:
        path: folder of the files.
        manifest: content of manifest.json; for each split documents, bytes, words, tokens, sha256 and bytes_per_token.
            `left_out` is optional: what was not read, by reason (see `user_text.documents.LeftOut`).
        train, validation, test: token ids of each split, memory-mapped and read-only.
    """

    path: Path
    manifest: dict[str, Any]
    train: np.memmap
    validation: np.memmap
    test: np.memmap

    @staticmethod
    def open(path: Path | str, verify: bool = True) -> Dataset:
        """Open the result of `prepare_dataset`.

        Args:
            path: folder of the files.
            verify: whether to read all token ids and compare their hashes; otherwise only the sizes of their files.

        Raises:
            UsageError: the folder is not a dataset, has another format, or is damaged.
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
        """Hash of everything that results depend on: token ids, tokenizer and vocabulary, but not the source's name."""
        return self.manifest["dataset_hash"]

    @property
    def vocabulary(self) -> int:
        """Number of token ids that a model must embed: the requested number, even if the tokenizer learned fewer."""
        return self.manifest["vocabulary"]

    @property
    def has_text(self) -> bool:
        """Whether the token ids encode text; otherwise losses are in nats per token only."""
        return self.bytes_per_token("validation") is not None

    def bytes_per_token(self, split: str) -> float | None:
        """Return the bytes of text per token of a split; None for ids without text.

        End-of-document tokens count as tokens without bytes.
        """
        return self.manifest["splits"][split]["bytes_per_token"]

    def nats_per_token_to_bits_per_byte(self, loss_nats: float, split: str) -> float | None:
        """Convert a loss to bits per byte of text, which is comparable across tokenizers; None for ids without text.

        The conversion uses the mean bytes per token of the whole split, also for a loss on a part of it.
        """
        size = self.bytes_per_token(split)
        return None if size is None else loss_nats / math.log(2.0) / size

    def nats_per_token_to_word_perplexity(self, loss_nats: float, split: str) -> float | None:
        """Convert a loss to perplexity per word, the unit of the One Billion Word benchmark.

        The perplexity is exp(nats per token * tokens / words) over the whole split. Words are separated by spaces, and
        the end of each document counts as one word, as the benchmark counts the end of a sentence. Tokens include
        end-of-document tokens, so the model is also charged for every end.

        Returns:
            The perplexity; None for a dataset without word perplexity, and if the exponential overflows.
        """
        counts = self.manifest["splits"][split]
        if not self.manifest["word_perplexity"] or not counts["words"]:
            return None
        nats_per_word = loss_nats * counts["tokens"] / counts["words"]
        return math.exp(nats_per_word) if nats_per_word < 700.0 else None

    def tokenizer(self) -> AnyTokenizer:
        """Return the tokenizer of the token ids."""
        return read_tokenizer((self.path / "tokenizer.json").read_text(encoding="utf-8"))


def default_cache_dir() -> Path:
    """Return the folder of prepared datasets, `data` in the cache (see `cache_folder`)."""
    return cache_folder("data")


def check_source(source: str) -> None:
    """Check quickly that a source exists and that a cache folder is known. A TFDS set must have been prepared.

    Raises:
        UsageError: the source does not exist, its text cannot be read, or no cache folder is known.
    """
    cache = default_cache_dir()
    if is_tfds_source(source):
        load_set(source, cache)
    elif is_token_source(source):
        open_tokens(source)
    else:
        read_documents(source)


def prepare_dataset(
    data: DataConfig,
    vocabulary: int,
    cache_dir: Path | None = None,
    progress: Log | None = None,
    processes: int | None = None,
) -> Path:
    """Prepare a dataset, or find the one prepared earlier from the same text and settings.

    Several processes may call this at once: one builds, and the others wait for it. The next call with the same text
    and settings continues a build that was interrupted or killed.

    Args:
        data: source, and settings of the tokenizer.
        vocabulary: largest number of token ids.
        cache_dir: folder of all datasets; None: `default_cache_dir()`.
        progress: callback that receives lines of progress. For a dataset that exists, these are only warnings: of an
            unofficial set, of text that was left out, and of splits that are far larger than planned.
        processes: number of worker processes; None: chosen by the number of cores and the size of the text.

    Returns:
        The dataset's folder, for `Dataset.open`.

    Raises:
        UsageError: the text cannot be read or is too short, the vocabulary is too small, or the cache is not writable.
        WorkFailedError: a worker process died.
    """
    log = progress or (lambda line: None)
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    corpus = _open(data, cache)
    if isinstance(corpus, RecordCorpus) and corpus.tfds_set.warning:
        log(corpus.tfds_set.warning)
    left_out = [each.to_dict() for each in corpus.found.left_out] if isinstance(corpus, TextCorpus) else []
    if isinstance(corpus, TextCorpus) and left_out:
        log(format_left_out(corpus.found.left_out))
    settings, identity, target = _locate(corpus, data, vocabulary, cache)
    prefix = f".{_json_sha256(settings)[:12]}-"

    def waiting() -> None:
        log(f"another process prepares {data.source}: waiting for it")

    with cache_errors(cache):
        while not _is_ready(target):
            with lock_folder(cache / f"{prefix}{target.name}.partial", waiting) as partial:
                if partial is not None and not _is_ready(target):
                    _delete_outdated(cache, prefix, partial)
                    if not _is_ready(partial):
                        _build(partial, data, vocabulary, corpus, identity, log, processes)
                    _publish(partial, target)
        manifest = _read_manifest(target)
        if manifest.get("left_out", []) != left_out:
            write_atomically(target / "manifest.json", json.dumps({**manifest, "left_out": left_out}, indent=2) + "\n")
    if isinstance(corpus, TextCorpus) and (warning := warn_of_large_splits(manifest["splits"])):
        log(f"warning: {warning}")
    return target


def find_prepared_dataset(data: DataConfig, vocabulary: int) -> Dataset | None:
    """Return the dataset that `prepare_dataset` would find, or None if it would have to build it.

    Raises:
        UsageError: the text cannot be read.
    """
    cache = default_cache_dir()
    _, _, target = _locate(_open(data, cache), data, vocabulary, cache)
    try:
        return Dataset.open(target, verify=False)
    except UsageError:
        return None


def _open(data: DataConfig, cache: Path) -> Corpus | TokenArray:
    return open_tokens(data.source) if is_token_source(data.source) else open_corpus(data.source, cache)


def _locate(corpus: Corpus | TokenArray, data: DataConfig, vocabulary: int, cache: Path) -> tuple[list[Any], Any, Path]:
    """Return the settings of a dataset, the identity of its text, and its folder."""
    settings: list[Any] = [data.source, vocabulary, data.tokenizer_bytes, data.word_perplexity]
    if data.tokenizer:
        settings.append(load_user_tokenizer(data.tokenizer, vocabulary).to_json())
    identity = corpus.identity() if isinstance(corpus, TokenArray) else corpus.identity
    return settings, identity, cache / _json_sha256([FORMAT, identity, *settings])[:24]


def _json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _delete_outdated(cache: Path, prefix: str, partial: Path) -> None:
    """Delete the folders of killed builds with the same settings, but an earlier text or format."""
    for folder in cache.glob(f"{prefix}*"):
        if folder != partial:
            delete_unlocked_folder(folder)


def _is_ready(folder: Path) -> bool:
    try:
        Dataset.open(folder)
    except UsageError:
        return False
    return True


def _publish(partial: Path, target: Path) -> None:
    for file in partial.iterdir():
        if file.name not in FILES:
            file.unlink()
    replace_folder(partial, target)  # if the target exists, it is damaged


def _build(
    folder: Path,
    data: DataConfig,
    vocabulary: int,
    corpus: Corpus | TokenArray,
    identity: str,
    log: Log,
    processes: int | None,
) -> None:
    dtype = "<u2" if vocabulary <= 2**16 else "<u4"
    try:
        if isinstance(corpus, TokenArray):
            tokenizer = load_user_tokenizer(data.tokenizer, vocabulary) if data.tokenizer else None
            built = BuiltDataset(*write_token_splits(folder, corpus, vocabulary, dtype, tokenizer))
        else:
            built = build_dataset(folder, corpus, data, vocabulary, dtype, log, processes)
    except UsageError:  # a later build could not continue with this text
        shutil.rmtree(folder, ignore_errors=True)
        raise
    manifest = {
        "format": FORMAT,
        "source": data.source,
        **_origin(corpus),
        "content_hash": identity,
        "vocabulary": vocabulary,
        "tokenizer_size": built.tokenizer.size,
        "tokenizer_sha256": file_sha256(folder / "tokenizer.json"),
        "end_of_document": built.tokenizer.end_of_document,
        "dtype": dtype,
        "word_perplexity": data.word_perplexity or (not isinstance(corpus, TokenArray) and corpus.has_sentences),
        "splits": {
            split: {
                **counts,
                "sha256": file_sha256(_bin(folder, split)),
                "bytes_per_token": counts["bytes"] / counts["tokens"] if counts["bytes"] else None,
            }
            for split, counts in built.splits.items()
        },
    }
    manifest["dataset_hash"] = _dataset_hash(manifest)
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    tokens = sum(counts["tokens"] for counts in built.splits.values())
    size = manifest["splits"]["train"]["bytes_per_token"]
    shown = "without text: losses are in nats per token only" if size is None else f"{size:.2f} bytes each"
    log(f"prepared {tokens:,} tokens, {shown}")


def _origin(corpus: Corpus | TokenArray) -> dict[str, Any]:
    """Return the manifest's entries about the origin of a TFDS set; none for other text."""
    if not isinstance(corpus, RecordCorpus):
        return {}
    found = corpus.tfds_set
    entries = {"set": found.set_name, "tfds_version": found.tfds_version, "feature": found.feature}
    return {**entries, "archive": found.archive, "published": not found.is_unofficial}


def _dataset_hash(manifest: dict[str, Any]) -> str:
    names = ("format", "vocabulary", "tokenizer_sha256", "end_of_document", "dtype", "splits", "word_perplexity")
    return _json_sha256({name: manifest[name] for name in names})


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} is not a prepared dataset (no readable manifest.json): run `primer-search data prepare`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "manifest.json is not JSON") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UsageError(f"{path} has format {found}, but must have format {FORMAT}: prepare the data again")
    return manifest


def _check_files(path: Path, manifest: dict[str, Any], verify: bool) -> None:
    """Raise ValueError, LookupError, TypeError or OSError if the files differ from the manifest."""
    if manifest["dataset_hash"] != _dataset_hash(manifest):
        raise ValueError("manifest.json was changed")
    if manifest["tokenizer_sha256"] != file_sha256(path / "tokenizer.json"):
        raise ValueError("tokenizer.json was changed")
    for split in SPLITS:
        described = manifest["splits"][split]
        if _bin(path, split).stat().st_size != described["tokens"] * np.dtype(manifest["dtype"]).itemsize:
            raise ValueError(f"{split}.bin does not have the size that the manifest says")
        if verify and described["sha256"] != file_sha256(_bin(path, split)):
            raise ValueError(f"{split}.bin was changed")


def _bin(path: Path, split: str) -> Path:
    return path / f"{split}.bin"


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"the dataset {path} is damaged ({why}): delete that folder and prepare the data again")
