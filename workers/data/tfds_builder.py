"""TensorFlow Datasets, found or built, and its records read: the one module that imports `tensorflow_datasets`.

It runs in processes of its own (see `published`), so neither it nor TensorFlow is ever loaded where models train.
Building needs TensorFlow (the extra `lm1b`); reading goes through array_record alone. TFDS's `as_data_source` spends
40 us on a record, mostly on generic decoding, which for LM1B's sentences would be more than tokenizing them;
`read_texts` reads the same files in ranges, in 3-6 us, and a test holds the two equal.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import traceback
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...primitives.errors import UsageError
from ...system.error_text import error_summary, strip_folders
from ...system.files import file_sha256
from ...system.locks import scratch_folder

__all__ = ["LM1B_ARCHIVE", "LM1B_PLACE", "build", "main", "read_texts"]

LM1B_ARCHIVE = "1-billion-word-language-modeling-benchmark-r13output.tar.gz"
LM1B_PLACE = "http://www.statmt.org/lm-benchmark/"
LM1B_EXAMPLES = {"train": 30_301_028, "test": 306_688}
"""How many sentences the published archive holds."""

NOTE = "primer_search.json"
"""Beside the records that we had built: which archive they are from."""

SCRATCH = ".primer-search"
"""Below `data_dir`: where a set is built, by one process at a time; what a killed one left there is deleted."""

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)

READ_AHEAD = "readahead_buffer_size:4194304"
REACH_SECONDS = 20.0
NO_TENSORFLOW = (
    "a TFDS set is built with TensorFlow, which is not fully installed: pip install tensorflow importlib_resources"
)


def build(name: str, data_dir: str | None, archive: str | None, feature: str = "") -> dict[str, Any]:
    """Find a text set that TFDS has prepared as array_record, or let TFDS's own builder prepare it.

    Args:
        name: as `tfds.builder` takes it, a configuration after a slash.
        data_dir: where prepared sets are; TFDS's own default if None.
        archive: for lm1b, a local file to use in place of the download. One that is not the published one is built
            apart, below `data_dir/not-published-<checksum>`, where nobody takes it for the benchmark.
        feature: the text to read; if empty, the one named `text`, or the only one.

    Returns:
        The full name, versions, text feature, archive and splits, with the files of each, as JSON values.

    Raises:
        UsageError: no such set, the download failed, TensorFlow or text is missing, or the archive has another layout.
    """
    root = Path(data_dir or _default_data_dir()).expanduser()
    facts: dict[str, Any] | None = None
    if archive is not None:
        facts = _archive_facts(Path(archive))
        if not facts["published"]:
            root /= f"not-published-{facts['sha256'][:12]}"
    builder = _builder(name, root)
    feature = _choose_feature(name, feature, builder.info.features)  # before it is built, which can take hours
    if not builder.data_path.exists():
        _prepare(name, root, archive, facts)
        builder = _builder(name, root)
    return _describe(builder, feature)


def read_texts(files: Sequence[tuple[str, int]], feature: str, start: int, stop: int) -> list[bytes]:
    """Texts of records `start` to `stop` of a split, as UTF-8 bytes; records without the text are left out.

    Args:
        files: the split's array_record files, each with its number of records.
        feature: the name of a scalar text feature.

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
            raise UsageError(
                f"{path} is damaged ({_summary(error)}): delete its folder and run `data prepare` again."
            ) from error
    return texts


def main() -> None:
    """`build` for a process of its own: JSON arguments on stdin, a JSON object on stdout; ends when stdin closes.

    The arguments are those of `build` and `temporary`, a folder that whoever started the process deletes.
    """
    request = json.loads(sys.stdin.readline())
    answer_to, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    tempfile.tempdir = request.pop("temporary")  # TFDS leaves folders behind in it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = 1
    try:
        print(json.dumps(_answer(request)), file=answer_to, flush=True)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        _end(code)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"built": build(**request)}
    except UsageError as error:
        return {"error": str(error)}
    except ImportError as error:  # TFDS loads what it needs late, and wherever it needs it
        return {"error": f"{NO_TENSORFLOW} ({error})."}


to_delete: list[Path] = []
"""Folders that nobody needs when this process ends, if only because the one that started it was killed."""


def _end_with_parent() -> None:
    sys.stdin.read()
    _end(1)


def _end(code: int) -> None:
    for folder in to_delete:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # TensorFlow's threads may hang at exit


def _default_data_dir() -> str:
    from tensorflow_datasets.core.constants import DATA_DIR  # which TFDS_DATA_DIR sets

    return DATA_DIR


def _builder(name: str, root: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=str(root), file_format="array_record")
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        raise UsageError(
            f"tensorflow-datasets has no set {name} as array_record ({_summary(error)}): correct the name, or give"
            " another --data-dir."
        ) from error


def _choose_feature(name: str, asked: str, features: Any) -> str:
    import tensorflow_datasets as tfds

    texts = [key for key, kind in features.items() if isinstance(kind, tfds.features.Text) and kind.shape == ()]
    if asked in texts:
        return asked
    if not asked and ("text" in texts or len(texts) == 1):
        return "text" if "text" in texts else texts[0]
    what = f"has no text feature {asked}" if asked else "does not say which text to read"
    if not texts:
        raise UsageError(
            f"data.source tfds:{name} has no text, only {', '.join(features) or 'nothing'}: name another set."
        )
    raise UsageError(
        f"data.source tfds:{name} {what}: write tfds:NAME:FEATURE with one of its text features ({', '.join(texts)})."
    )


def _prepare(name: str, root: Path, archive: str | None, facts: dict[str, Any] | None) -> None:
    """Have a set built in a scratch folder, then put it in its place as a whole, with the note on its archive."""
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{NO_TENSORFLOW}.") from error
    try:
        with scratch_folder(root / SCRATCH) as folder:
            if _builder(name, root).data_path.exists():  # another process was faster
                return
            to_delete.append(folder)
            builder = _builder(name, folder / "sets")
            if builder.name == "lm1b" and archive is None:
                _check_reachable(builder)
            _download_and_prepare(builder, root, folder, archive, facts)
            if facts is not None:
                Path(builder.data_path, NOTE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
            _move(folder / "sets" / builder.name, root / builder.name)
    except (MemoryError, UsageError):
        raise
    except Exception as error:  # a builder is foreign code and raises what it likes; the cause is named
        raise _not_built(name, root, archive, error) from error
    finally:
        if facts is not None and not facts["published"] and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def _move(source: Path, target: Path) -> None:
    """Move a folder, or where the target is there already, what it lacks."""
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
        # TFDS takes a file of its download's name in `manual_dir` for the download, and checks it against `url_infos`.
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
        raise ValueError("it holds no example")


def _check_reachable(builder: Any) -> None:
    """Raise OSError or ValueError if the download is not there: TFDS retries for minutes what does not answer."""
    ((url, _),) = builder.url_infos.items()
    request = urllib.request.Request(url, method="HEAD")
    urllib.request.urlopen(request, timeout=REACH_SECONDS).close()


def _not_built(name: str, root: Path, archive: str | None, error: BaseException) -> UsageError:
    why = _summary(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return UsageError(f"{root} cannot be written ({why}): give another --data-dir.")
    if re.search("no space left|not enough disk space|quota exceeded", why, re.IGNORECASE):
        return UsageError(
            f"{root} has too little space to build {name} ({why}): free some, or give another --data-dir."
        )
    if name.split("/")[0] != "lm1b":
        return UsageError(f"tensorflow-datasets cannot prepare {name} ({why}): see its page on tensorflow.org.")
    if archive is not None:
        return UsageError(
            f"--archive {archive} cannot be built as LM1B ({why}): give {LM1B_ARCHIVE} as published, or a tar.gz of"
            " the same layout."
        )
    return UsageError(
        f"LM1B cannot be downloaded ({why}): get {LM1B_ARCHIVE}, which {LM1B_PLACE} publishes, by other means and run"
        " `primer-search data prepare lm1b --archive FILE`."
    )


def _archive_facts(path: Path) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise UsageError(f"--archive {path} cannot be read ({error.strerror}): give a readable file.") from error
    known = tfds.builder_cls("lm1b").url_infos or {}
    published = sha256 in {info.checksum for info in known.values()}
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256, "published": published}


def _describe(builder: Any, feature: str) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    info = builder.info
    if info.file_format is None or info.file_format.value != "array_record":
        raise UsageError(
            f"{builder.data_path} holds {info.full_name} in another format than array_record: give another --data-dir,"
            " where it can be prepared again."
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
    """What LM1B's records were built from; TFDS itself has checked a download, which its counts confirm."""
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
    """Return an error in one line, without the folders of the files it names, which are scratch folders."""
    return strip_folders(error_summary(error)).rstrip(".:")
