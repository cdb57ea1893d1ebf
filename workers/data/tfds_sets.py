"""Published text sets by name: `lm1b` and `tfds:NAME`, prepared by TensorFlow Datasets, then remembered by the cache.

`locate_set` (the command `data prepare`) has TFDS find or build a set in a process of its own and writes down where its
records are, in `<cache>/sources/`. Everything after that, searches among it, reads the note and needs no TFDS to know
what the source is. A set without validation or test text gets them from its train documents (see `splits`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.error_text import strip_folders
from ...system.files import write_atomically
from ...system.locks import delete_unlocked_folder, scratch_folder

__all__ = ["TfdsSet", "is_tfds_source", "load_set", "locate_set"]

TELL_SECONDS = 10.0
END_SECONDS = 20.0
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""Our splits, and what publishers call them."""


@dataclass(frozen=True, slots=True)
class TfdsSet:
    """Where the records of a set are.

    Attributes:
        source: as the user writes it.
        set_name: TFDS's full name, with the version.
        tfds_version: of the library that found it.
        feature: the text feature that is read.
        archive: LM1B's: name, sha256, and whether it is the published one; None for others.
        splits: for each of our splits the set has: `files` (path, records), `bytes` of them, `documents`.
    """

    source: str
    set_name: str
    tfds_version: str
    feature: str
    archive: dict[str, Any] | None
    splits: dict[str, dict[str, Any]]

    @property
    def is_unofficial(self) -> bool:
        """Whether it was built from something else than what was published under its name."""
        return self.archive is not None and not self.archive["published"]

    @property
    def identity(self) -> str:
        """Of the text: set, version, feature, archive, and the size of everything (hexadecimal)."""
        sizes = {
            split: [facts["documents"], facts["bytes"], [records for _, records in facts["files"]]]
            for split, facts in self.splits.items()
        }
        what = [self.set_name, self.feature, self.archive and self.archive["sha256"], sizes]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def warning(self) -> str:
        """What to say before a look-alike is used; empty for others."""
        if not self.is_unofficial:
            return ""
        assert self.archive is not None
        checksum = (self.archive["sha256"] or "unknown")[:12]
        return (
            f"warning: {self.source} here is NOT the published LM1B but {self.archive['name']} (sha256 {checksum});"
            " its results do not compare with the benchmark's"
        )


def is_tfds_source(source: str) -> bool:
    """Whether a source is read through TFDS."""
    return source == "lm1b" or source.startswith("tfds:")


def locate_set(
    source: str,
    cache: Path,
    data_dir: Path | None = None,
    archive: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> TfdsSet:
    """Have TFDS find or build a set, and remember where it is; without `data_dir` and `archive`, where it was.

    Args:
        source: `lm1b` or `tfds:NAME[/CONFIG][:feature]`.
        cache: where datasets are kept.
        data_dir: where TFDS keeps its sets; its own default if None.
        archive: for lm1b, a local file in place of the download.
        tell: given lines on the way.

    Raises:
        UsageError: no such set or text feature, no TensorFlow, a download that failed, an archive that is not one.
        WorkFailedError: the building process died.
    """
    name, feature = _parse(source)
    if archive is not None and source != "lm1b":
        raise UsageError(f"--archive is for lm1b, not for {source}: leave it out.")
    if archive is not None and not archive.is_file():
        raise UsageError(f"--archive {archive} is no file: give the path of the LM1B archive.")
    if data_dir is None and archive is None and (known := _located(source, cache)):
        tell(f"{source} lies in {Path(known.splits['train']['files'][0][0]).parent}")
        return known
    tell(f"asking tensorflow-datasets for {name}; a set that is not there yet is built now, which can take long")
    request = {
        "name": name,
        "feature": feature,
        "data_dir": None if data_dir is None else str(data_dir.expanduser().resolve()),
        "archive": None if archive is None else str(archive),
    }
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(_temporary(cache))
        except OSError as error:
            raise _unwritable(cache, error) from error
        built = _in_a_process({**request, "temporary": str(temporary)}, tell)
    found = TfdsSet(
        source,
        built["set"],
        built["tfds_version"],
        built["feature"],
        built["archive"],
        _our_splits(source, built["splits"]),
    )
    _remember(found, cache)
    return found


def load_set(source: str, cache: Path) -> TfdsSet:
    """What `locate_set` remembered.

    Raises:
        UsageError: the source was never prepared here, or is written wrongly; says what to run.
    """
    _parse(source)
    try:
        return TfdsSet(**json.loads(_note(source, cache).read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(
            f"data.source {source} is not prepared: run `primer-search data prepare {source}` first"
            f"{' (--archive FILE where the download fails)' if source == 'lm1b' else ''}."
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{_note(source, cache)} is damaged: run `primer-search data prepare {source}`.") from error


def _located(source: str, cache: Path) -> TfdsSet | None:
    """What `locate_set` remembered, if all of it is still there; a look-alike only ever comes from `archive`."""
    try:
        known = load_set(source, cache)
    except UsageError:
        return None
    whole = all(Path(path).is_file() for facts in known.splits.values() for path, _ in facts["files"])
    return known if whole and not known.is_unofficial else None


def _parse(source: str) -> tuple[str, str]:
    """TFDS's name of the set, and the feature asked for (or nothing)."""
    if source == "lm1b":
        return "lm1b", ""
    name, _, feature = source.removeprefix("tfds:").partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.+-]+)*", name) or source.endswith(":"):
        raise UsageError(f"data.source is {source!r}: write tfds:NAME[/CONFIG][:feature], as in tfds:wiki40b/en.")
    return ("lm1b", feature) if name.split("/")[0] == "lm1b" else (name, feature)


def _our_splits(source: str, splits: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ours = {
        split: next((splits[name] for name in names if name in splits), None) for split, names in SPLIT_NAMES.items()
    }
    if ours["train"] is None:
        raise UsageError(f"data.source {source} has no split named train, only {', '.join(splits) or 'none'}.")
    return {split: facts for split, facts in ours.items() if facts is not None and facts["documents"]}


def _temporary(cache: Path) -> AbstractContextManager[Path]:
    """A folder for the files that TFDS drops; those of processes that were killed are deleted first."""
    folder = cache / "sources"
    for left in folder.glob(".temporary-*"):
        delete_unlocked_folder(left)
    return scratch_folder(folder / f".temporary-{secrets.token_hex(4)}")


def _in_a_process(request: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Run `tfds.build` apart: TensorFlow's memory, threads and messages stay out of this process."""
    code = "from primer_search.workers.data.tfds_builder import main; main()"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as answers:  # a pipe would fill up: the list is long
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=answers, stderr=log, env=environment
        )
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            _wait(child, log, tell)
        finally:
            _end(child)
        answers.seek(0)
        if not (answer := answers.read()):
            raise WorkFailedError(
                f"the process that builds {request['name']} ended with exit code {child.returncode}"
                f" ({_last_line(log) or 'no message'}): check memory and disk, and run again."
            )
    parsed = json.loads(answer)
    if "error" in parsed:
        raise UsageError(parsed["error"])
    return parsed["built"]


def _wait(child: subprocess.Popen[bytes], log: IO[bytes], tell: Callable[[str], None]) -> None:
    told = ""
    while child.poll() is None:
        try:
            child.wait(TELL_SECONDS)
        except subprocess.TimeoutExpired:
            if (line := _last_line(log)) != told and line:
                tell(f"tensorflow-datasets: {line}")
                told = line


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process that ends when its input closes, once it has cleaned up."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_line(log: IO[bytes]) -> str:
    """What was last printed for people to read: no line of TensorFlow's log, and of a file its name alone."""
    size = os.fstat(log.fileno()).st_size
    tail = os.pread(log.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", tail)]
    told = [line for line in lines if line and not re.match(r"(?:[IWEF]\d{4} |WARNING: All log messages)", line)]
    return strip_folders(told[-1])[:160] if told else ""


def _note(source: str, cache: Path) -> Path:
    slug = re.sub(r"[^\w.-]+", "-", source)
    return cache / "sources" / f"{slug}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.json"


def _remember(found: TfdsSet, cache: Path) -> None:
    path = _note(found.source, cache)
    fields = {name: getattr(found, name) for name in TfdsSet.__dataclass_fields__}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(fields, indent=2) + "\n")
    except OSError as error:
        raise _unwritable(cache, error) from error


def _unwritable(cache: Path, error: OSError) -> UsageError:
    return UsageError(
        f"The data cache {cache} cannot be written ({error}): make it writable and roomy, or"
        " set PRIMER_SEARCH_CACHE to another folder."
    )
