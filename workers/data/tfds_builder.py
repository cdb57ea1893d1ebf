"""Builder of sets of TensorFlow Datasets (TFDS): find a set, or let the set's own builder build it.

Only this module imports `tensorflow_datasets`. It runs in separate processes, so that TFDS and TensorFlow are never
loaded where models train. Building needs TensorFlow (the extra `lm1b`); reading records does not need TensorFlow.
"""

from __future__ import annotations

import errno
import json
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError
from ...system.error_text import error_summary, strip_folders
from ...system.files import file_sha256
from ...system.locks import scratch_folder
from .tfds_process import delete_at_exit, serve

__all__ = ["LM1B_ARCHIVE", "LM1B_URL", "build_set", "main", "read_texts"]

LM1B_ARCHIVE = "1-billion-word-language-modeling-benchmark-r13output.tar.gz"
LM1B_URL = "http://www.statmt.org/lm-benchmark/"
LM1B_EXAMPLES = {"train": 30_301_028, "test": 306_688}
"""Sentences in the published archive."""

NOTE = "primer_search.json"
"""File next to records that were built from `--archive`; it describes the archive."""

SCRATCH = ".primer-search"
"""Folder below `data_dir` where one process at a time builds a set. The leftovers of killed processes are deleted."""

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)

READ_AHEAD = "readahead_buffer_size:4194304"
REACH_SECONDS = 20.0
NO_TENSORFLOW = "building a TFDS set needs TensorFlow: run `pip install tensorflow importlib_resources`"


def build_set(name: str, data_dir: str | None, archive: str | None, feature: str = "") -> dict[str, Any]:
    """Find a text set that TFDS has built as array_record, or let TFDS build it.

    Args:
        name: name for `tfds.builder`; a configuration follows a slash.
        data_dir: folder of TFDS sets; None: the default of TFDS.
        archive: local file to use instead of the download of lm1b. An unofficial archive is built in a separate folder
            `data_dir/not-published-<checksum>`, so that it is never mistaken for the benchmark.
        feature: text feature to read; empty: the feature named `text`, or the only one.

    Returns:
        The full name, version of TFDS, text feature, archive and splits with their files, as JSON values.

    Raises:
        UsageError: the set does not exist, the download failed, the archive has another layout, or TensorFlow or the
            text feature is missing.
    """
    root = Path(data_dir or _default_data_dir()).expanduser()
    facts: dict[str, Any] | None = None
    if archive is not None:
        facts = _archive_facts(Path(archive))
        if not facts["published"]:
            root /= f"not-published-{facts['sha256'][:12]}"
    builder = _builder(name, root)
    feature = _choose_feature(name, feature, builder.info.features)  # before building, which can take hours
    if not builder.data_path.exists():
        _prepare(name, root, archive, facts)
        builder = _builder(name, root)
    return _describe(builder, feature)


def read_texts(files: Sequence[tuple[str, int]], feature: str, start: int, stop: int) -> list[bytes]:
    """Return the texts of records `start` to `stop` of a split in UTF-8, without records that lack the feature.

    Reading ranges of the files takes 3-6 us per record. `as_data_source` of TFDS takes 40 us, mostly for generic
    decoding, which is more than tokenizing a sentence of LM1B takes. A test checks that both return the same texts.

    Args:
        files: array_record files of the split, each with its number of records.
        feature: name of a scalar text feature.
        start, stop: range of records.

    Raises:
        UsageError: a file is damaged.
    """
    # Compiled modules, whose names pyright cannot see.
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]

    texts: list[bytes] = []
    offset = 0
    for path, count in files:
        first, last = max(start - offset, 0), min(stop - offset, count)
        offset += count
        if first >= last:
            continue
        try:
            reader = array_record_module.ArrayRecordReader(path, options=READ_AHEAD)
            for record in reader.read(first, last):
                texts += example.FromString(record).features.feature[feature].bytes_list.value
            reader.close()
        except (OSError, ValueError, RuntimeError, LookupError, DecodeError) as error:
            remedy = "delete its folder and run `primer-search data prepare` again"
            raise UsageError(f"{path} is damaged ({_summary(error)}): {remedy}") from error
    return texts


def main() -> None:
    """Serve `build_set` in a separate process (see `tfds_process`)."""
    serve(_answer)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"built": build_set(**request)}
    except UsageError as error:
        return {"error": str(error)}
    except ImportError as error:  # TFDS imports TensorFlow late, and in many places
        return {"error": f"{NO_TENSORFLOW} ({error})"}


def _default_data_dir() -> str:
    from tensorflow_datasets.core.constants import DATA_DIR  # the variable TFDS_DATA_DIR sets it

    return DATA_DIR


def _builder(name: str, root: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=str(root), file_format="array_record")
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        raise UsageError(
            f"TensorFlow Datasets cannot find {name} as array_record ({_summary(error)}): correct the name, or give"
            " another --data-dir"
        ) from error


def _choose_feature(name: str, requested: str, features: Any) -> str:
    import tensorflow_datasets as tfds

    texts = [key for key, kind in features.items() if isinstance(kind, tfds.features.Text) and kind.shape == ()]
    if requested in texts:
        return requested
    if not requested and ("text" in texts or len(texts) == 1):
        return "text" if "text" in texts else texts[0]
    if not texts:
        found = ", ".join(features) or "none"
        raise UsageError(f"data.source tfds:{name} lacks a text feature (its features: {found}): use another set")
    what = f"lacks the text feature {requested}" if requested else "has several text features"
    raise UsageError(f"data.source tfds:{name} {what}: write tfds:NAME:FEATURE with one of {', '.join(texts)}")


def _prepare(name: str, root: Path, archive: str | None, facts: dict[str, Any] | None) -> None:
    """Build a set in a scratch folder, then move it to its place, with the description of its archive."""
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(NO_TENSORFLOW) from error
    try:
        with scratch_folder(root / SCRATCH) as folder:
            if _builder(name, root).data_path.exists():  # another process was faster
                return
            delete_at_exit.append(folder)
            builder = _builder(name, folder / "sets")
            if builder.name == "lm1b" and archive is None:
                _check_reachable(builder)
            _download_and_prepare(builder, root, folder, archive, facts)
            if facts is not None:
                Path(builder.data_path, NOTE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
            _move(folder / "sets" / builder.name, root / builder.name)
    except (MemoryError, UsageError):
        raise
    except Exception as error:  # builders are foreign code and raise any error
        raise _not_built(name, root, archive, error) from error
    finally:
        if facts is not None and not facts["published"] and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def _move(source: Path, target: Path) -> None:
    """Move a folder. If the target exists, move only the files and folders that it lacks."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    elif source.is_dir():
        for inner in source.iterdir():
            _move(inner, target / inner.name)


def _download_and_prepare(
    builder: Any, root: Path, folder: Path, archive: str | None, facts: dict[str, Any] | None
) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import Size

    downloads = root / "downloads"
    settings: dict[str, Any] = {"try_download_gcs": False}
    if archive is not None and facts is not None:
        # TFDS uses a file with the name of the download in `manual_dir`, and checks it against `url_infos`.
        ((url, info),) = builder.url_infos.items()
        downloads = folder / "downloads"
        (folder / "manual").mkdir()
        (folder / "manual" / info.filename).symlink_to(Path(archive).resolve())
        if not facts["published"]:
            size, checksum = Size(facts["bytes"]), facts["sha256"]
            builder.url_infos[url] = type(info)(size=size, checksum=checksum, filename=info.filename)
        settings |= {"manual_dir": folder / "manual", "extract_dir": folder / "extracted"}
    builder.download_and_prepare(download_dir=downloads, download_config=tfds.download.DownloadConfig(**settings))
    if not sum(split.num_examples for split in builder.info.splits.values()):
        raise ValueError("it is empty")


def _check_reachable(builder: Any) -> None:
    """Raise OSError or ValueError if the server of the download does not answer. TFDS would retry for minutes."""
    ((url, _),) = builder.url_infos.items()
    request = urllib.request.Request(url, method="HEAD")
    urllib.request.urlopen(request, timeout=REACH_SECONDS).close()


def _not_built(name: str, root: Path, archive: str | None, error: BaseException) -> UsageError:
    why = _summary(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return UsageError(f"{root} cannot be written ({why}): give another --data-dir")
    if re.search("no space left|not enough disk space|quota exceeded", why, re.IGNORECASE):
        return UsageError(f"{root} has too little space for {name} ({why}): free space, or give another --data-dir")
    if name.split("/")[0] != "lm1b":
        return UsageError(f"TensorFlow Datasets cannot build {name} ({why}): see the set's page on tensorflow.org")
    if archive is not None:
        return UsageError(
            f"--archive {archive} cannot be built as LM1B ({why}): give the published {LM1B_ARCHIVE}, or a tar.gz with"
            " the same layout"
        )
    return UsageError(
        f"LM1B cannot be downloaded ({why}): get {LM1B_ARCHIVE} from {LM1B_URL} by other means and run"
        " `primer-search data prepare lm1b --archive FILE`"
    )


def _archive_facts(path: Path) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise UsageError(f"--archive {path} cannot be read ({error.strerror}): give a readable file") from error
    known = tfds.builder_cls("lm1b").url_infos or {}
    published = sha256 in {info.checksum for info in known.values()}
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256, "published": published}


def _describe(builder: Any, feature: str) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    info = builder.info
    if info.file_format is None or info.file_format.value != "array_record":
        raise UsageError(
            f"{builder.data_path} has {info.full_name} in another format than array_record: give another --data-dir"
            " to build the set there"
        )
    return {
        "set": info.full_name,
        "tfds_version": tfds.__version__,
        "feature": feature,
        "archive": _archive_of(builder),
        "splits": {
            name: {
                "files": [
                    (str(path), records) for path, records in zip(split.filepaths, split.shard_lengths, strict=True)
                ],
                "bytes": sum(Path(path).stat().st_size for path in split.filepaths),
                "documents": split.num_examples,
            }
            for name, split in info.splits.items()
        },
    }


def _archive_of(builder: Any) -> dict[str, Any] | None:
    """Describe the archive of LM1B's records. A download, which TFDS checks, must have the published sizes."""
    if builder.name != "lm1b":
        return None
    note = Path(builder.data_path, NOTE)
    if note.exists():
        return json.loads(note.read_text(encoding="utf-8"))
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    ((_, info),) = builder.url_infos.items()
    published = counts == LM1B_EXAMPLES and int(builder.info.download_size) == int(info.size)
    return {"name": LM1B_ARCHIVE, "sha256": info.checksum if published else None, "published": published}


def _summary(error: BaseException) -> str:
    """Return an error in one line. Files are named without their folders, which are scratch folders."""
    return strip_folders(error_summary(error)).rstrip(".:")
