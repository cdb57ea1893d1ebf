"""Prepared datasets in the caches of machines: finding a dataset, and sending it once to each machine that lacks it.

The name of a dataset's folder is a hash of its inputs. A machine with a folder of that name in its data cache therefore
already has the dataset. The dataset hash is a hash of the content, and does not depend on the source of the text.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...primitives.errors import UsageError
from .dataset import Dataset, default_cache_dir

__all__ = ["MAX_BYTES", "dataset_files", "find_dataset_by_hash", "find_local_dataset", "install_dataset"]

MAX_BYTES = 8 * 2**30
"""Largest size of a dataset that is sent. LM1B, with a billion tokens of two bytes each, has 2 GiB."""


def find_local_dataset(path: str) -> Path | None:
    """Return the dataset's folder on this machine: the path itself, or its name in the data cache; None if absent."""
    for folder in (Path(path), default_cache_dir() / Path(path).name):
        with suppress(UsageError):
            return Dataset.open(folder, verify=False).path
    return None


def find_dataset_by_hash(dataset_hash: str, recorded: str | None = None) -> Dataset | None:
    """Return the verified dataset that has this hash, from the recorded folder or the data cache; None if absent."""
    folders = [] if recorded is None else [Path(recorded)]
    for folder in [*folders, *sorted(path.parent for path in default_cache_dir().glob("[!.]*/manifest.json"))]:
        with suppress(UsageError):
            if Dataset.open(folder, verify=False).dataset_hash == dataset_hash:
                return Dataset.open(folder)
    return None


def dataset_files(path: str) -> dict[str, np.ndarray]:
    """Return the files of a dataset by name, as memory-mapped bytes.

    Raises:
        UsageError: the dataset is larger than `MAX_BYTES`.
    """
    files = {file.name: file for file in sorted(Path(path).iterdir()) if file.is_file()}
    size = sum(file.stat().st_size for file in files.values())
    if size > MAX_BYTES:
        raise UsageError(
            f"the dataset has {size / 2**30:.1f} GiB, but at most {MAX_BYTES / 2**30:g} GiB are sent to machines of a "
            "cluster: set PRIMER_SEARCH_CACHE to a folder that all of them share"
        )
    return {  # an empty file cannot be mapped
        name: np.asarray(np.memmap(file, np.uint8, "r")) if file.stat().st_size else np.empty(0, np.uint8)
        for name, file in files.items()
    }


def install_dataset(name: str, names: Sequence[str], contents: Sequence[np.ndarray]) -> Path:
    """Write a dataset into this machine's cache and return its folder. An existing dataset is kept.

    Args:
        name: name of the dataset's folder.
        names, contents: names and contents of its files.
    """
    target = default_cache_dir() / name
    partial = target.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        for file, content in zip(names, contents, strict=True):
            content.tofile(partial / file)
        Dataset.open(partial)
        with suppress(OSError):  # another worker has written the dataset in the meantime
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
