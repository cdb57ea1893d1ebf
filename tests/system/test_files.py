"""Atomic writes, replaced folders and append-only files with a journal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.system.files import (
    Journal,
    file_sha256,
    replace_folder,
    replacement,
    write_atomically,
    write_output,
)


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "page.html"
    write_atomically(path, "first\n")

    class FailedError(Exception):
        pass

    with pytest.raises(FailedError), replacement(path) as temporary:
        temporary.write_text("half")
        raise FailedError
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_a_usage_error_with_path_and_remedy(tmp_path: Path):
    path = tmp_path / "missing" / "page.html"
    with pytest.raises(UsageError) as refused:
        write_output(path, "text", "choose another place with -o")
    assert str(path) in str(refused.value) and str(refused.value).endswith("-o")


def test_a_folder_replaces_a_former_one(tmp_path: Path):
    for version in ("first", "second"):
        new = tmp_path / "new"
        new.mkdir()
        (new / version).touch()
        replace_folder(new, tmp_path / "target")
        assert [file.name for file in (tmp_path / "target").iterdir()] == [version]
    assert [folder.name for folder in tmp_path.iterdir()] == ["target"]


def test_a_folder_that_cannot_be_put_in_place_brings_the_former_one_back(tmp_path: Path):
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError):
        replace_folder(tmp_path / "missing", tmp_path / "target")
    assert [folder.name for folder in tmp_path.iterdir()] == ["target"]


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_what_was_not_committed_is_cut_off(tmp_path: Path):
    with Journal(tmp_path, "journal.json", ["a", "b"]) as journal:
        assert journal.state == {}
        journal.append("a", b"kept")
        journal.commit({"done": 1})
        journal.append("a", b" lost")
        journal.append("b", b"lost")
    with Journal(tmp_path, "journal.json", ["a", "b"]) as journal:
        assert journal.state == {"done": 1}
        journal.append("a", b" and more")
        journal.commit({"done": 2})
    assert (tmp_path / "a").read_bytes() == b"kept and more"
    assert (tmp_path / "b").read_bytes() == b""


def test_files_that_someone_deleted_are_begun_anew(tmp_path: Path):
    with Journal(tmp_path, "journal.json", ["a", "b"]) as journal:
        journal.append("a", b"kept")
        journal.append("b", b"kept")
        journal.commit({"done": 1})
    (tmp_path / "b").unlink()
    with Journal(tmp_path, "journal.json", ["a", "b"]) as journal:
        assert journal.state == {}
    assert (tmp_path / "a").read_bytes() == b""


def test_without_a_journal_the_files_are_begun_anew(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"left over")
    with Journal(tmp_path, "journal.json", ["a"]) as journal:
        journal.commit({"done": 0})
    assert (tmp_path / "a").read_bytes() == b""
