"""Published text sets by name, `lm1b` and `tfds:NAME`, through TensorFlow Datasets (TFDS).

`locate_set`, called by `primer-search data prepare`, lets TFDS find or build a set in a separate process. It then
describes the set and its files in `<cache>/sources/`. All other code reads this description and does not need TFDS. A
set without validation or test text gets them from its train documents (see `splits`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError
from ...system.files import write_atomically
from ...system.locks import delete_unlocked_folder, scratch_folder
from ...system.user_folders import user_path
from .tfds_process import run_builder

__all__ = ["TfdsSet", "cache_errors", "is_tfds_source", "load_set", "locate_set"]

SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""Splits of this package, and their names in published sets."""


@dataclass(frozen=True, slots=True)
class TfdsSet:
    """A set and the files of its records.

    Attributes:
        source: source as the user wrote it.
        set_name: full name in TFDS, with the version.
        tfds_version: version of TFDS that found or built the set.
        feature: text feature to read.
        archive: archive of LM1B (`name`, `sha256`, and whether it is the `published` one); None for other sets.
        splits: splits by this package's names. Each has its `files` (pairs of path and number of records), and its
            numbers of `bytes` and `documents`.
    """

    source: str
    set_name: str
    tfds_version: str
    feature: str
    archive: dict[str, Any] | None
    splits: dict[str, dict[str, Any]]

    @property
    def is_unofficial(self) -> bool:
        """Whether the set was built from an archive that is not the published one."""
        return self.archive is not None and not self.archive["published"]

    @property
    def identity(self) -> str:
        """Hexadecimal hash that identifies the text: set, version, feature, archive and all sizes."""
        sizes = {
            split: [facts["documents"], facts["bytes"], [records for _, records in facts["files"]]]
            for split, facts in self.splits.items()
        }
        what = [self.set_name, self.feature, self.archive and self.archive["sha256"], sizes]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def warning(self) -> str:
        """Warning about an unofficial set; empty for other sets."""
        if not self.is_unofficial:
            return ""
        assert self.archive is not None
        checksum = (self.archive["sha256"] or "unknown")[:12]
        return (
            f"warning: {self.source} here is NOT the published LM1B but {self.archive['name']} (sha256 {checksum});"
            " do not compare its results with those of the benchmark"
        )


def is_tfds_source(source: str) -> bool:
    """Return whether a source is a TFDS set."""
    return source == "lm1b" or source.startswith("tfds:")


def locate_set(
    source: str,
    cache: Path,
    data_dir: Path | None = None,
    archive: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> TfdsSet:
    """Let TFDS find or build a set, and store its description in the cache.

    Without `data_dir` and `archive`, a set that was located before is returned at once.

    Args:
        source: `lm1b` or `tfds:NAME[/CONFIG][:feature]`.
        cache: folder of prepared datasets.
        data_dir: folder of TFDS sets; None: the default of TFDS.
        archive: local file to use instead of the download of lm1b.
        log: callback that receives lines of progress.

    Raises:
        UsageError: the set, its text feature, TensorFlow, the download or a valid archive is missing.
        WorkFailedError: the process that builds the set died.
    """
    name, feature = _parse(source)
    if archive is not None and source != "lm1b":
        raise UsageError(f"--archive is for lm1b, not for {source}: leave it out")
    if archive is not None and not archive.is_file():
        raise UsageError(f"--archive {archive} is not a file: give the path of the LM1B archive")
    if data_dir is None and archive is None and (known := _known_set(source, cache)):
        log(f"found {source} in {Path(known.splits['train']['files'][0][0]).parent}")
        return known
    log(f"looking for {name} in TensorFlow Datasets; if it is not built yet, this can take a long time")
    request = {
        "name": name,
        "feature": feature,
        "data_dir": None if data_dir is None else str(user_path(data_dir).resolve()),
        "archive": None if archive is None else str(archive),
    }
    with ExitStack() as stack:
        with cache_errors(cache):
            temporary = stack.enter_context(_temporary(cache))
        built = run_builder({**request, "temporary": str(temporary)}, log)
    found = TfdsSet(
        source,
        set_name=built["set"],
        tfds_version=built["tfds_version"],
        feature=built["feature"],
        archive=built["archive"],
        splits=_own_splits(source, built["splits"]),
    )
    with cache_errors(cache):
        path = _description_file(source, cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(found), indent=2) + "\n")
    return found


def load_set(source: str, cache: Path) -> TfdsSet:
    """Return the result of an earlier `locate_set`.

    Raises:
        UsageError: the source is malformed, or was not prepared on this machine.
    """
    _parse(source)
    path = _description_file(source, cache)
    try:
        return TfdsSet(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        archive = " (with --archive FILE if the download fails)" if source == "lm1b" else ""
        raise UsageError(
            f"data.source {source} is not prepared: run `primer-search data prepare {source}` first{archive}"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged: run `primer-search data prepare {source}`") from error


@contextmanager
def cache_errors(cache: Path) -> Iterator[None]:
    """Turn an OSError of the block into a UsageError that names the data cache."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the data cache {cache} cannot be written ({error}): make it writable, free space, or set"
            " PRIMER_SEARCH_CACHE to another folder"
        ) from error


def _known_set(source: str, cache: Path) -> TfdsSet | None:
    """Return the result of an earlier `locate_set` if all its files exist. An unofficial set needs `archive` again."""
    try:
        known = load_set(source, cache)
    except UsageError:
        return None
    complete = all(Path(path).is_file() for facts in known.splits.values() for path, _ in facts["files"])
    return known if complete and not known.is_unofficial else None


def _parse(source: str) -> tuple[str, str]:
    """Return the name of the set in TFDS and the requested feature (or an empty string)."""
    if source == "lm1b":
        return "lm1b", ""
    name, _, feature = source.removeprefix("tfds:").partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.+-]+)*", name) or source.endswith(":"):
        raise UsageError(f"data.source is {source!r}: write tfds:NAME[/CONFIG][:feature], such as tfds:wiki40b/en")
    return ("lm1b", feature) if name.split("/")[0] == "lm1b" else (name, feature)


def _own_splits(source: str, splits: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ours = {
        split: next((splits[name] for name in names if name in splits), None) for split, names in SPLIT_NAMES.items()
    }
    if ours["train"] is None:
        raise UsageError(f"data.source {source} lacks the split train (its splits: {', '.join(splits) or 'none'})")
    return {split: facts for split, facts in ours.items() if facts is not None and facts["documents"]}


def _temporary(cache: Path) -> AbstractContextManager[Path]:
    """Return a folder for TFDS's temporary files, after deleting the folders of killed processes."""
    folder = cache / "sources"
    for left in folder.glob(".temporary-*"):
        delete_unlocked_folder(left)
    return scratch_folder(folder / f".temporary-{secrets.token_hex(4)}")


def _description_file(source: str, cache: Path) -> Path:
    slug = re.sub(r"[^\w.-]+", "-", source)
    return cache / "sources" / f"{slug}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.json"
