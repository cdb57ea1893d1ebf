"""What is read of a folder and what is left out: told with reasons, names and bytes, and kept in the manifest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.tests.workers.data.test_cutting import book
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.text_sources import read_documents
from primer_search.workers.data.user_text import formats
from primer_search.workers.data.user_text.documents import LeftOut, format_left_out


def left_out(folder: Path) -> dict[str, LeftOut]:
    return {each.reason: each for each in read_documents(f"text:{folder}").left_out}


def names(folder: Path) -> list[str]:
    return [document.name for document in read_documents(f"text:{folder}")]


@pytest.mark.parametrize("block", [7, 1024])
def test_one_wrong_byte_is_named_with_its_file_offset_and_line(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "BLOCK", block)
    content = "ä line\n".encode() * 500 + b"it\x92s"
    (tmp_path / "bad.txt").write_bytes(content)
    (tmp_path / "good.txt").write_text("some text")
    place = f"byte 0x92 at offset {500 * 8 + 2:,}, line 501"
    found = left_out(tmp_path)
    assert found == {"not UTF-8": LeftOut("not UTF-8", 1, len(content), (f"bad.txt, {place}",))}
    assert format_left_out(tuple(found.values())) == f"left out: 1 not UTF-8, {len(content):,} bytes (bad.txt, {place})"
    assert names(tmp_path) == ["good.txt"]
    with pytest.raises(UsageError, match=rf"is not UTF-8 text \({place}\): convert the file to UTF-8"):
        list(read_documents(f"text:{tmp_path / 'bad.txt'}"))


def test_a_character_that_ends_with_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_bytes("abc\né".encode()[:-1])
    with pytest.raises(UsageError, match=r"byte 0xc3 at offset 4, line 2"):
        list(read_documents(f"text:{tmp_path / 'cut.txt'}"))


def test_every_file_that_is_not_read_is_counted_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\x00\xff")
    (tmp_path / ".notes").write_text("1234")
    (tmp_path / ".git" / "refs").mkdir(parents=True)
    for name in ("config", "refs/main"):
        (tmp_path / ".git" / name).write_text("12345")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert left_out(tmp_path) == {
        "binary": LeftOut("binary", 1, 6, ("image.png",)),
        "hidden": LeftOut("hidden", 3, 14, (".git/", ".notes")),
        "neither file nor folder": LeftOut("neither file nor folder", 2, 0, ("gone", "pipe")),
    }


def test_only_the_first_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for number in range(9):
        (tmp_path / f".{number}").write_text("1")
    line = format_left_out(read_documents(f"text:{tmp_path}").left_out)
    assert line == "left out: 9 hidden, 9 bytes (.0, .1, .2, .3, .4, ...)"


def test_linked_files_and_folders_are_read_once_also_in_circles(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "b.txt").write_text("the linked text")
    root = tmp_path / "root"
    (root / "own").mkdir(parents=True)
    (root / "own" / "a.txt").write_text("the own text")
    (root / "linked").symlink_to(outside)
    (root / "own" / "circle").symlink_to(root)
    (root / "own" / "again").symlink_to(outside)
    (outside / "deep" / "up").symlink_to(outside)
    assert names(root) == ["linked/deep/b.txt", "own/a.txt"]
    (found,) = left_out(root).values()
    assert found.reason == "linked folder that is read elsewhere"
    assert sorted(found.first) == ["linked/deep/up/", "own/again/", "own/circle/"]


def test_a_folder_of_left_out_files_alone_says_what_they_are(tmp_path: Path) -> None:
    (tmp_path / ".hidden.txt").write_text("some text")
    (tmp_path / "bad.txt").write_bytes(b"good so far \xff")
    place = "byte 0xff at offset 12, line 1"
    found = f"left out: 1 hidden, 9 bytes (.hidden.txt); 1 not UTF-8, 13 bytes (bad.txt, {place})"
    with pytest.raises(UsageError, match=re.escape(f"has no UTF-8 text ({found})")):
        list(read_documents(f"text:{tmp_path}"))


def test_what_is_left_out_is_told_each_time_and_is_in_the_manifest(tmp_path: Path) -> None:
    text, cache = tmp_path / "text", tmp_path / "cache"
    text.mkdir()
    (text / "a.txt").write_text(book(0, 30_000))
    (text / "bad.txt").write_bytes(b"\xff" * 100)

    def prepare() -> tuple[Dataset, list[str]]:
        lines: list[str] = []
        path = prepare_dataset(DataConfig(f"text:{text}", 50_000), 300, cache, lines.append)
        return Dataset.open(path), [line for line in lines if line.startswith("left out: ")]

    first, told = prepare()
    entry = {"reason": "not UTF-8", "count": 1, "bytes": 100, "first": ["bad.txt, byte 0xff at offset 0, line 1"]}
    assert first.manifest["left_out"] == [entry]
    assert told == ["left out: 1 not UTF-8, 100 bytes (bad.txt, byte 0xff at offset 0, line 1)"]
    assert prepare()[1] == told
    (text / "bad.txt").unlink()
    last, told = prepare()
    assert (last.path, last.dataset_hash, told) == (first.path, first.dataset_hash, [])
    assert json.loads((first.path / "manifest.json").read_text())["left_out"] == []


def test_a_file_that_is_no_text_adds_nothing_to_the_size_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(book(0, 30_000))
    alone = names(tmp_path)
    (tmp_path / "z.txt").write_bytes(b"x" * 5_000_000 + b"\xff")
    assert names(tmp_path) == alone
