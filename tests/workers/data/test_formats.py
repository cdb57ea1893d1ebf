"""Formats of text files: the same documents from each, damage named by file and place, huge expansions refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from primer_search.primitives.errors import UsageError
from primer_search.tests.workers.data.test_cutting import book
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.text_sources import read_documents
from primer_search.workers.data.user_text import formats

TEXTS = [f'Text {number}.\nwith "quotes", é and 日本 and 🙂\n\n' for number in range(50)]


def zst(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zst,
}


def lines_of(records: list[object]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def texts(path: Path, option: str = "") -> list[str]:
    return [document.text for document in read_documents(f"text:{path}{option}")]


def refusal(path: Path, option: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        texts(path, option)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_text_gives_the_documents_of_the_text(ending: str, tmp_path: Path) -> None:
    content = book(0, 50_000).encode()
    plain = texts(written(tmp_path / "plain.txt", content))
    assert len(plain) > 20
    assert texts(written(tmp_path / f"a.txt{ending}", COMPRESS[ending](content))) == plain
    half = len(content) // 2
    members = COMPRESS[ending](content[:half]) + COMPRESS[ending](content[half:])
    assert texts(written(tmp_path / f"b.txt{ending.upper()}", members)) == plain


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_json_lines_give_their_texts_alone(name: str, ending: str, tmp_path: Path) -> None:
    content = b"\n".join(lines_of([{"id": n, "text": text}]) for n, text in enumerate(TEXTS))  # with blank lines
    written(tmp_path / f"{name}{ending}", COMPRESS[ending](content))
    assert texts(tmp_path) == TEXTS


def test_the_field_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lines_of([{"text": "wrong", "content": text} for text in TEXTS]))
    assert texts(path, "?field=content") == TEXTS
    assert "line 1 has no field 'body' (it has 'text', 'content')" in refusal(path, "?field=body")
    assert "must end with ?field=NAME" in refusal(path, "?fields=body")
    plain = written(tmp_path / "a.txt", b"plain text")
    assert "neither JSON lines nor Parquet" in refusal(plain, "?field=content")
    assert texts(written(tmp_path / "odd?field=x", b"a file with such a name")) == ["a file with such a name"]


def test_json_that_is_no_sequence_of_records_stays_text(tmp_path: Path) -> None:
    for content in (b'{\n  "text": "one"\n}\n', b'[{"text": "one"}]\n', b'{"name": "no text"}\n'):
        assert texts(written(tmp_path / "a.json", content)) == [content.decode()]


def test_long_records_are_cut_and_short_ones_are_whole(tmp_path: Path) -> None:
    long = book(1, 40_000)
    path = written(tmp_path / "a.jsonl", lines_of([{"text": "short"}, {"text": long}, {"text": "end"}]))
    found = texts(path)
    assert (found[0], found[-1], "".join(found[1:-1])) == ("short", "end", long)
    assert len(found) > 15


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "cut o', "line 4 is not JSON (Unterminated string"),
        (b"plain words\n", "line 4 is not JSON"),
        (b'"a string"\n', "line 4 is not a JSON object"),
        (b'{"text": 5}\n', "line 4 has int, not text, in the field 'text'"),
        (b'{"text": "\xff"}\n', "line 4 is not JSON ('utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000 + b"\n", "line 4 is not JSON (maximum recursion"),
    ],
)
def test_a_damaged_line_is_named(line: bytes, words: str, tmp_path: Path) -> None:
    content = lines_of([{"text": text} for text in TEXTS[:3]])
    written(tmp_path / "a.jsonl", content + line)
    assert f"a.jsonl {words}" in refusal(tmp_path)


def test_records_whose_text_is_null_are_counted_as_left_out(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", lines_of([{"text": "one"}, {"text": None}, {"text": "three"}]))
    (found,) = read_documents(f"text:{tmp_path}").left_out
    assert (found.reason, found.count, found.first) == (
        "without text (the field 'text' is null)",
        1,
        ("a.jsonl line 2",),
    )
    assert texts(tmp_path) == ["one", "three"]


def test_half_a_character_of_json_is_replaced(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.jsonl", rb'{"text": "a\ud83d b \ud83d\ude42"}')) == ["a\ufffd b 🙂"]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("inner", ["a.txt", "a.jsonl"])
def test_a_compressed_file_that_is_cut_off_is_named_with_a_line(ending: str, inner: str, tmp_path: Path) -> None:
    content = lines_of([{"text": book(number, 2000)} for number in range(200)])
    whole = COMPRESS[ending](content)
    message = refusal(written(tmp_path / f"{inner}{ending}", whole[: len(whole) * 3 // 4]))
    found = int(message.partition("is damaged in line ")[2].split()[0])
    assert (0 if ending in (".bz2", ".zst") else 100) < found < 170
    assert message.startswith(f"{inner}{ending} is damaged") and message.endswith("get the file again")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_file_that_is_not_what_its_name_says_is_named(ending: str, tmp_path: Path) -> None:
    message = refusal(written(tmp_path / f"a.txt{ending}", b"plain text, not compressed at all"))
    assert message.startswith(f"a.txt{ending} is damaged in line 1")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_small_file_that_expands_to_a_huge_one_is_refused_in_little_memory(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FREE_BYTES", 4_000_000)
    path = written(tmp_path / f"bomb.txt{ending}", COMPRESS[ending](b"bomb " * 8_000_000))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert f"bomb.txt{ending} expands to more than 200 times its size" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 2_000_000)
    path = written(tmp_path / "a.jsonl", b'{"text": "one"}\n' + b" " * 5_000_000)
    assert "a.jsonl line 2 is longer than 2,000,000 bytes" in refusal(path)


def write_parquet(path: Path, **columns: object) -> Path:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=20)
    return path


def test_parquet_gives_the_texts_of_a_column(tmp_path: Path) -> None:
    numbers = list(range(50))
    path = write_parquet(tmp_path / "a.parquet", id=numbers, text=TEXTS)
    assert texts(path) == TEXTS
    dictionary = pyarrow.array(TEXTS).dictionary_encode()
    assert texts(write_parquet(tmp_path / "b.parquet", body=dictionary), "?field=body") == TEXTS
    assert "a.parquet has no field 'body' (it has 'id', 'text')" in refusal(path, "?field=body")
    assert "a.parquet has int64 in its column 'id'" in refusal(path, "?field=id")
    nulls = write_parquet(tmp_path / "c.parquet", text=["one", None, "three"])
    assert texts(nulls) == ["one", "three"]
    assert read_documents(f"text:{nulls}").left_out[0].first == ("c.parquet row 2",)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "a.parquet", text=TEXTS).read_bytes()
    for content in (whole[:-30], b"no parquet", whole[:200] + bytes(300) + whole[500:]):
        message = refusal(written(tmp_path / "bad.parquet", content))
        assert message.startswith("bad.parquet is damaged after row ")


def test_parquet_of_one_repeated_text_does_not_expand_without_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FREE_BYTES", 1_000_000)
    path = write_parquet(tmp_path / "a.parquet", text=["same text " * 1000] * 2000)
    assert "a.parquet expands to more than 200 times its size" in refusal(path)


def test_a_folder_of_several_formats_is_one_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    books = [book(number, 20_000) for number in range(4)]
    written(folder / "a.txt", books[0].encode())
    written(folder / "b.txt.zst", zst(books[1].encode()))
    written(folder / "c.jsonl.gz", gzip.compress(lines_of([{"text": books[2]}])))
    write_parquet(folder / "d.parquet", text=[books[3]])
    plain = tmp_path / "plain"
    plain.mkdir()
    for number, text in enumerate(books):
        written(plain / f"{number}.txt", text.encode())
    made = [
        Dataset.open(prepare_dataset(DataConfig(f"text:{place}", 50_000), 300, tmp_path / "cache"))
        for place in (folder, plain)
    ]
    assert made[0].dataset_hash == made[1].dataset_hash
