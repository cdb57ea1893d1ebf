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
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..primitives.errors import UsageError
from .config import DataConfig
from .splits import SPLITS, CorpusIndex, HashedText, distinct_texts, index_source
from .tokenizer import SMALLEST_VOCABULARY, Tokenizer

__all__ = ["FORMAT", "Dataset", "default_cache_dir", "prepare"]

FORMAT = 1
"""Raise it when the same text and settings would give other files."""

ENCODE_BYTES = 4 * 1024 * 1024
"""Text handed to the tokenizer at once: enough for all cores, little enough for memory."""

HASH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A prepared dataset.

    Attributes:
        path: its folder.
        manifest: what manifest.json says; for each split documents, bytes, tokens, sha256 and bytes_per_token.
        train, validation, test: token ids, one stream a split, memory-mapped and read-only.
    """

    path: Path
    manifest: dict[str, Any]
    train: np.memmap
    validation: np.memmap
    test: np.memmap

    @staticmethod
    def open(path: Path | str, verify: bool = True) -> Dataset:
        """Open what `prepare` made.

        Args:
            path: the folder `prepare` returned.
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

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the token ids come from."""
        return Tokenizer.load(self.path / "tokenizer.json")


def default_cache_dir() -> Path:
    """`$PRIMER_SEARCH_CACHE/data`, or `~/.cache/primer-search/data`."""
    root = os.environ.get("PRIMER_SEARCH_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "primer-search") / "data"


def prepare(
    data: DataConfig,
    vocabulary: int,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Make a dataset, or find the one made before from the same text and settings.

    Safe to call from several processes at once: each builds in a folder of its own, and the first to finish is kept.

    Args:
        data: the source, and how much of it the tokenizer learns from.
        vocabulary: number of token ids, at most.
        cache_dir: where datasets are kept; `default_cache_dir()` if not given.
        progress: told what happens, a line at a time; silent if the dataset is there.

    Returns:
        The dataset's folder, for `Dataset.open`.

    Raises:
        UsageError: the source cannot be read or is too little, the vocabulary too small, the cache not writable.
    """
    tell = progress or (lambda line: None)
    if vocabulary < SMALLEST_VOCABULARY:
        raise UsageError(f"model.vocabulary is {vocabulary}: give at least {SMALLEST_VOCABULARY}, a token a byte.")
    index = index_source(data.source)
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    target = cache / _key(data, vocabulary, index)
    if _is_ready(target):
        return target
    draft = cache / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True)
        _build(draft, data, vocabulary, index, tell)
        _publish(draft, target)
    except OSError as error:
        raise UsageError(f"The data cache {cache} cannot be written ({error}): set PRIMER_SEARCH_CACHE.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _key(data: DataConfig, vocabulary: int, index: CorpusIndex) -> str:
    made_from = [FORMAT, data.source, index.content_hash, vocabulary, data.tokenizer_bytes]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:24]


def _is_ready(target: Path) -> bool:
    if not target.exists():
        return False
    try:
        Dataset.open(target)
    except UsageError:
        return False
    return True


def _publish(draft: Path, target: Path) -> None:
    if target.exists() and not _is_ready(target):
        damaged = draft.with_name(f"{draft.name}.damaged")
        target.rename(damaged)
        shutil.rmtree(damaged)
    try:
        draft.rename(target)
    except OSError:
        if not _is_ready(target):  # else another process was first, with the same files
            raise


def _build(draft: Path, data: DataConfig, vocabulary: int, index: CorpusIndex, tell: Callable[[str], None]) -> None:
    megabytes = sum(index.sizes.values()) / 1e6
    tell(f"preparing {data.source}: {len(index.sizes)} documents, {megabytes:.1f} MB; training the tokenizer")
    tokenizer = Tokenizer.train(_tokenizer_texts(data, index), vocabulary)
    if tokenizer.size < vocabulary:
        tell(f"the text gave {tokenizer.size} tokens of the {vocabulary} asked for; the other ids stay unused")
    (draft / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    tell("encoding the text")
    dtype = "<u2" if vocabulary <= 2**16 else "<u4"
    tokens = _write_tokens(draft, data.source, index, tokenizer, dtype)
    manifest = {
        "format": FORMAT,
        "source": data.source,
        "content_hash": index.content_hash,
        "vocabulary": vocabulary,
        "tokenizer_size": tokenizer.size,
        "tokenizer_sha256": _sha256(draft / "tokenizer.json"),
        "end_of_document": tokenizer.end_of_document,
        "dtype": dtype,
        "splits": {split: _describe(draft, split, index, tokens[split]) for split in SPLITS},
    }
    manifest["dataset_hash"] = _dataset_hash(manifest)
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    tell(f"prepared {sum(tokens.values()):,} tokens, {manifest['splits']['train']['bytes_per_token']:.2f} bytes each")


def _tokenizer_texts(data: DataConfig, index: CorpusIndex) -> Iterator[str]:
    """Train documents of `tokenizer_bytes` in all, those with the smallest hashes: a sample of the whole source."""
    train = sorted(digest for digest, split in index.split_of.items() if split == "train")
    take: dict[bytes, int] = {}
    left = data.tokenizer_bytes
    for digest in train:
        take[digest] = min(left, index.sizes[digest])
        left -= take[digest]
        if left == 0:
            break
    for text in distinct_texts(data.source):
        if text.digest in take:
            # A cut can fall inside a character, whose bytes are then left out.
            yield text.content[: take[text.digest]].decode("utf-8", errors="ignore")


def _write_tokens(draft: Path, source: str, index: CorpusIndex, tokenizer: Tokenizer, dtype: str) -> dict[str, int]:
    """Encode every document into its split's file; the number of tokens in each."""
    tokens = dict.fromkeys(SPLITS, 0)
    content_hash = hashlib.blake2b(digest_size=len(index.content_hash) // 2)
    with ExitStack() as stack:
        files = {split: stack.enter_context(_bin(draft, split).open("wb")) for split in SPLITS}
        for group in _groups(distinct_texts(source), ENCODE_BYTES):
            encoded = tokenizer.encode_documents([text.content.decode("utf-8") for text in group])
            for text, ids in zip(group, encoded, strict=True):
                content_hash.update(text.digest)
                split = index.split_of.get(text.digest, "train")
                files[split].write(np.asarray(ids, dtype=dtype).tobytes())
                tokens[split] += len(ids)
    if content_hash.hexdigest() != index.content_hash:
        raise UsageError(f"data.source {source} changed while it was being read: run again once it is complete.")
    return tokens


def _groups(texts: Iterator[HashedText], least_bytes: int) -> Iterator[list[HashedText]]:
    group: list[HashedText] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text.content)
        if size >= least_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def _describe(draft: Path, split: str, index: CorpusIndex, tokens: int) -> dict[str, Any]:
    sizes = [index.sizes[digest] for digest, its_split in index.split_of.items() if its_split == split]
    return {
        "documents": len(sizes),
        "bytes": sum(sizes),
        "tokens": tokens,
        "sha256": _sha256(_bin(draft, split)),
        "bytes_per_token": sum(sizes) / tokens,
    }


def _dataset_hash(manifest: dict[str, Any]) -> str:
    names = ("format", "vocabulary", "tokenizer_sha256", "end_of_document", "dtype", "splits")
    what_it_is = {name: manifest[name] for name in names}
    return hashlib.sha256(json.dumps(what_it_is, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} is no prepared dataset (no readable manifest.json): give what prepare made."
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
    if manifest["tokenizer_sha256"] != _sha256(path / "tokenizer.json"):
        raise ValueError("tokenizer.json was changed")
    for split in SPLITS:
        described = manifest["splits"][split]
        if _bin(path, split).stat().st_size != described["tokens"] * np.dtype(manifest["dtype"]).itemsize:
            raise ValueError(f"{split}.bin has another size than the manifest says")
        if verify and described["sha256"] != _sha256(_bin(path, split)):
            raise ValueError(f"{split}.bin was changed")


def _bin(path: Path, split: str) -> Path:
    return path / f"{split}.bin"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"The dataset {path} is damaged ({why}): delete that folder and prepare the data again.")
