"""Text to token ids: sources, splits, tokenizer, and the prepared dataset on disk."""

import json
import math
import random
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.errors import UsageError
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.splits import SPLITS, is_held_out
from primer_search.workers.data.text_sources import SOURCES, read_documents
from primer_search.workers.data.tokenizer import END_OF_DOCUMENT, CachingEncoder, Tokenizer
from primer_search.workers.data.user_text.documents import Document

WORDS = [
    "the",
    "block",
    "of",
    "a",
    "décodeur",
    "reads",
    "tokens",
    "日本",
    "in",
    "order",
    "(x + 1)",
    "\tand",
    "sums",
    "🙂",
]


def prose(seed: int, words: int = 300) -> str:
    rng = random.Random(seed)
    lines = [" ".join(rng.choices(WORDS, k=9)) + ".\n" + "\n" * (rng.random() < 0.2) for _ in range(words // 9)]
    return f"Document {seed}.\n\n" + "".join(lines)


def write_folder(root: Path, count: int = 60) -> Path:
    for number in range(count):
        path = root / f"part{number % 3}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(prose(number), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="session")
def dataset(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(prepare_dataset(DataConfig(f"text:{folder}"), 400, tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def library_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="session")
def library(library_cache: Path) -> Dataset:
    return Dataset.open(prepare_dataset(DataConfig(tokenizer_bytes=1_000_000), 512, library_cache))


def split_texts(dataset: Dataset, split: str) -> list[str]:
    text = dataset.tokenizer().decode(getattr(dataset, split).tolist())
    assert text.endswith(END_OF_DOCUMENT)
    return text.split(END_OF_DOCUMENT)[:-1]


class TestSources:
    def test_the_standard_library_is_its_own_files_without_tests_or_installed_packages(self):
        found = list(read_documents("python-stdlib"))
        names = [document.name for document in found]
        folders = {part for name in names for part in name.split("/")[:-1]}
        assert {"os.py", "json/decoder.py", "unittest/case.py"} <= set(names)
        assert not folders & {"test", "tests", "idle_test", "site-packages", "dist-packages"}
        assert names == [document.name for document in read_documents("python-stdlib")]
        source = Path(sysconfig.get_path("stdlib"), "os.py").read_bytes()
        assert found[names.index("os.py")].text.encode() == source
        assert sum(len(document.text) for document in found) > 5_000_000

    def test_a_folder_gives_its_text_files_in_order_and_skips_hidden_and_binary_ones(self, tmp_path: Path):
        for name in ("b.txt", "a/z.rst", "a/noextension", ".hidden", ".git/config"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"text of {name}\r\n", encoding="utf-8", newline="")
        (tmp_path / "image.png").write_bytes(b"\x89PNG\x00\xff")
        (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
        found = list(read_documents(f"text:{tmp_path}"))
        assert found == [Document(name, f"text of {name}\r\n") for name in ("b.txt", "a/noextension", "a/z.rst")]

    def test_a_file_is_cut_at_blank_lines_and_loses_nothing(self, tmp_path: Path):
        path = tmp_path / "book.txt"
        path.write_text("".join(prose(n, 600) + "\n" for n in range(80)), encoding="utf-8")
        parts = [document.text for document in read_documents(f"text:{path}")]
        assert "".join(parts) == path.read_text(encoding="utf-8")
        assert len(parts) > 40
        assert all(part.endswith("\n\n") for part in parts[:-1])

    def test_long_files_give_documents_of_about_64_kib_even_without_lines(self, tmp_path: Path):
        path = tmp_path / "line.txt"
        path.write_text("é" * 14_000_000, encoding="utf-8")
        sizes = [len(document.text) for document in read_documents(f"text:{tmp_path}")]
        assert sum(sizes) == 14_000_000
        assert max(sizes) == 2 * 64 * 1024
        assert [len(document.text) for document in read_documents(f"text:{path}")] == sizes

    @pytest.mark.parametrize(
        "source", ["wikipedia", "", "text", "text:", "python-stdlib:", "text:/no/such/path", "PYTHON-STDLIB"]
    )
    def test_a_source_that_does_not_exist_is_one_sentence_that_names_it(self, source: str):
        with pytest.raises(UsageError, match=r"data\.source") as caught:
            read_documents(source)
        assert source in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "content", [b"", b" \n \n", b"\xff\xfe\x00a", "café".encode("latin-1"), b"a\0b", b"ab\xc3"]
    )
    def test_a_file_that_holds_no_text_is_refused_alone_and_in_a_folder(self, content: bytes, tmp_path: Path):
        path = tmp_path / "data.bin"
        path.write_bytes(content)
        for source in (path, tmp_path):
            with pytest.raises(UsageError, match=r"no text|UTF-8"):
                list(read_documents(f"text:{source}"))

    def test_every_source_says_how_it_is_written_when_one_is_misspelt(self):
        with pytest.raises(UsageError) as caught:
            read_documents("python_stdlib")
        assert all(row.usage in str(caught.value) for row in SOURCES.values())


class TestTokenizer:
    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls) -> Tokenizer:
        return Tokenizer.train((prose(n) for n in range(20)), 300)

    @given(text=st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_comes_back_unchanged(self, tokenizer: Tokenizer, text: str):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.end_of_document not in ids

    def test_text_that_spells_the_end_of_document_does_not_end_one(self, tokenizer: Tokenizer):
        text = f"a {END_OF_DOCUMENT} b"
        packed = CachingEncoder(Tokenizer.from_json(tokenizer.to_json()), "<u2").encode([text.encode()])
        ids = np.frombuffer(packed, "<u2").tolist()
        assert ids.count(tokenizer.end_of_document) == 1
        assert tokenizer.decode(ids) == text + END_OF_DOCUMENT

    @given(
        text=st.text(
            st.one_of(st.sampled_from(" \t\n\x0b\x1c'sreé日²\u00a0"), st.characters(exclude_categories=["Cs"]))
        )
    )
    def test_text_packed_fast_has_the_ids_of_the_library(self, tokenizer: Tokenizer, text: str):
        packed = CachingEncoder(tokenizer, "<u2").encode([text.encode(), b"the end"])
        end = tokenizer.end_of_document
        assert np.frombuffer(packed, "<u2").tolist() == [
            *tokenizer.encode(text),
            end,
            *tokenizer.encode("the end"),
            end,
        ]

    def test_library_files_packed_fast_have_the_ids_of_the_library(self, tokenizer: Tokenizer):
        texts = [document.text for document in read_documents("python-stdlib")]
        beyond = [text for text in texts if not text.isascii()]
        texts = texts[::40] + beyond[::4]
        assert len(beyond) > 4
        packed = CachingEncoder(tokenizer, "<u4").encode([text.encode() for text in texts])
        expected = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.end_of_document]]
        assert np.frombuffer(packed, "<u4").tolist() == expected

    def test_training_twice_gives_the_same_tokenizer(self, tokenizer: Tokenizer):
        again = Tokenizer.train((prose(n) for n in range(20)), 300)
        assert again.to_json() == tokenizer.to_json()

    def test_it_learns_merges_up_to_the_vocabulary(self, tokenizer: Tokenizer):
        assert tokenizer.size == 300
        assert len(tokenizer.encode(prose(50))) < len(prose(50).encode()) / 2

    @pytest.mark.parametrize("text", ["", "{}", "[1", '{"version": "1.0", "model": {}}'])
    def test_a_file_that_is_not_a_tokenizer_is_refused(self, text: str):
        with pytest.raises(UsageError, match="tokenizer cannot be read"):
            Tokenizer.from_json(text)


class TestDataset:
    def test_the_splits_hold_every_document_exactly_and_in_order(self, folder: Path, dataset: Dataset):
        texts = [document.text for document in read_documents(f"text:{folder}")]
        found = {split: split_texts(dataset, split) for split in SPLITS}
        assert sorted(text for split in SPLITS for text in found[split]) == sorted(texts)
        for split, held in found.items():
            assert held == [text for text in texts if text in held]
            described = dataset.manifest["splits"][split]
            assert described["documents"] == len(held)
            assert described["bytes"] == sum(len(text.encode()) for text in held)
            assert described["words"] == sum(len(text.split()) + 1 for text in held)
            assert described["tokens"] == len(getattr(dataset, split))

    def test_streams_are_read_only_memory_maps_within_the_vocabulary(self, dataset: Dataset):
        for stream in (dataset.train, dataset.validation, dataset.test):
            assert isinstance(stream, np.memmap)
            assert stream.dtype == np.uint16
            assert not stream.flags.writeable
            assert 0 <= stream.min() <= stream.max() < dataset.vocabulary == 400

    def test_a_loss_in_bits_per_byte_is_all_its_nats_over_all_the_bytes(self, dataset: Dataset):
        described = dataset.manifest["splits"]["validation"]
        nats = 2.5 * described["tokens"]
        bits = dataset.nats_per_token_to_bits_per_byte(2.5, "validation")
        assert bits == pytest.approx(nats / math.log(2) / described["bytes"])
        assert dataset.bytes_per_token("test") == dataset.manifest["splits"]["test"]["bytes_per_token"] > 1

    def test_perplexity_per_word_is_all_its_nats_over_all_the_words(
        self, folder: Path, tmp_path: Path, dataset: Dataset
    ):
        assert dataset.nats_per_token_to_word_perplexity(2.5, "test") is None
        words = Dataset.open(prepare_dataset(DataConfig(f"text:{folder}", word_perplexity=True), 400, tmp_path))
        described = words.manifest["splits"]["test"]
        expected = math.exp(2.5 * described["tokens"] / described["words"])
        assert words.nats_per_token_to_word_perplexity(2.5, "test") == pytest.approx(expected)
        assert words.nats_per_token_to_word_perplexity(1e6, "test") is None

    def test_the_tokenizer_never_sees_validation_text(self, tmp_path: Path):
        made = []
        for name, words in (("plain", "some words "), ("odd", "qqxz qqxz ")):
            root = write_folder(tmp_path / name)
            (root / "held out.txt").write_text(_validation_text(words * 150))
            made.append(Dataset.open(prepare_dataset(DataConfig(f"text:{root}"), 400, tmp_path / "cache")))
        plain, odd = made
        assert "qqxz" in "".join(split_texts(odd, "validation"))
        assert odd.dataset_hash != plain.dataset_hash
        assert odd.manifest["tokenizer_sha256"] == plain.manifest["tokenizer_sha256"]

    def test_the_tokenizer_reads_no_more_than_it_may(self, tmp_path: Path):
        rng = random.Random(0)
        for number in range(60):
            words = [f"{rng.randrange(10**4):x}" for _ in range(400)]
            (tmp_path / f"{number}.txt").write_text(" ".join(words * 2))
        little = Dataset.open(
            prepare_dataset(DataConfig(f"text:{tmp_path}", tokenizer_bytes=10_000), 4000, tmp_path / "cache")
        )
        much = Dataset.open(prepare_dataset(DataConfig(f"text:{tmp_path}"), 4000, tmp_path / "cache"))
        assert little.manifest["tokenizer_size"] < much.manifest["tokenizer_size"]
        assert little.dataset_hash != much.dataset_hash

    def test_text_too_small_for_the_vocabulary_leaves_ids_unused_and_says_so(self, folder: Path, tmp_path: Path):
        lines: list[str] = []
        small = Dataset.open(prepare_dataset(DataConfig(f"text:{folder}"), 100_000, tmp_path, lines.append))
        assert small.vocabulary == 100_000
        assert small.manifest["tokenizer_size"] < 3000
        assert small.train.dtype == np.uint32
        assert any("100000" in line and "unused" in line for line in lines)

    def test_a_second_prepare_finds_the_first(self, folder: Path, tmp_path: Path):
        first, second = [], []
        path = prepare_dataset(DataConfig(f"text:{folder}"), 300, tmp_path, first.append)
        before = (path / "manifest.json").stat().st_mtime_ns
        assert prepare_dataset(DataConfig(f"text:{folder}"), 300, tmp_path, second.append) == path
        assert first
        assert not second
        assert (path / "manifest.json").stat().st_mtime_ns == before
        assert prepare_dataset(DataConfig(f"text:{folder}"), 301, tmp_path) != path

    def test_the_dataset_hash_knows_the_text_and_not_the_place(self, dataset: Dataset, tmp_path: Path):
        copy = write_folder(tmp_path / "copy")
        same = Dataset.open(prepare_dataset(DataConfig(f"text:{copy}"), 400, tmp_path / "cache"))
        assert same.dataset_hash == dataset.dataset_hash
        (copy / "part0" / "000.txt").write_text(prose(0) + "!", encoding="utf-8")
        changed = Dataset.open(prepare_dataset(DataConfig(f"text:{copy}"), 400, tmp_path / "cache"))
        assert changed.dataset_hash != dataset.dataset_hash

    def test_processes_that_prepare_at_once_agree_and_leave_nothing_behind(self, folder: Path, tmp_path: Path):
        program = (
            "import sys; from pathlib import Path; from primer_search.workers.config import DataConfig\n"
            "from primer_search.workers.data.dataset import Dataset, prepare_dataset\n"
            "print(prepare_dataset(DataConfig(sys.argv[1]), 400, Path(sys.argv[2])).name)"
        )
        command = [sys.executable, "-c", program, f"text:{folder}", str(tmp_path)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        names = {process.communicate(timeout=60)[0].strip() for process in running}
        assert all(process.returncode == 0 for process in running)
        assert {path.name for path in tmp_path.iterdir()} == names
        assert len(names) == 1

    def test_the_cache_goes_where_the_environment_says(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path))
        assert prepare_dataset(DataConfig(f"text:{folder}"), 300).parent == tmp_path / "data"

    def test_a_cache_that_cannot_be_written_is_a_usage_error(self, folder: Path, tmp_path: Path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(UsageError, match="PRIMER_SEARCH_CACHE"):
            prepare_dataset(DataConfig(f"text:{folder}"), 300, tmp_path / "file")

    def test_a_vocabulary_below_the_bytes_is_refused(self, folder: Path, tmp_path: Path):
        with pytest.raises(UsageError, match=r"model\.vocabulary is 256"):
            prepare_dataset(DataConfig(f"text:{folder}"), 256, tmp_path)
        assert not list(tmp_path.iterdir())


class TestDamage:
    @pytest.fixture
    def path(self, folder: Path, tmp_path: Path) -> Path:
        return prepare_dataset(DataConfig(f"text:{folder}"), 300, tmp_path)

    @pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "train.bin", "validation.bin", "test.bin"])
    @pytest.mark.parametrize("how", ["missing", "cut", "changed"])
    def test_a_damaged_dataset_is_refused_and_made_again(self, how: str, name: str, path: Path, folder: Path):
        whole = {file.name: file.read_bytes() for file in path.iterdir()}
        if how == "missing":
            (path / name).unlink()
        elif how == "cut":
            (path / name).write_bytes(whole[name][: len(whole[name]) // 2])
        else:
            place = whole[name].index(b'"bytes": ') + 9 if name == "manifest.json" else len(whole[name]) // 2
            (path / name).write_bytes(whole[name][:place] + bytes([whole[name][place] ^ 1]) + whole[name][place + 1 :])
        with pytest.raises(UsageError, match=r"damaged|not a prepared dataset|must have format") as caught:
            Dataset.open(path)
        assert str(path) in str(caught.value)
        assert prepare_dataset(DataConfig(f"text:{folder}"), 300, path.parent) == path
        assert {file.name: file.read_bytes() for file in path.iterdir()} == whole
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("manifest", ["[]", "{}", '{"format": 1}', '{"format": 3}', "[" * 100_000])
    def test_a_foreign_folder_is_refused(self, manifest: str, tmp_path: Path):
        (tmp_path / "manifest.json").write_text(manifest)
        with pytest.raises(UsageError):
            Dataset.open(tmp_path)

    def test_a_folder_or_path_without_a_dataset_is_refused(self, tmp_path: Path):
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(UsageError, match=r"manifest\.json"):
                Dataset.open(path)


class TestPythonStdlib:
    def test_it_makes_a_real_dataset(self, library: Dataset):
        splits = library.manifest["splits"]
        total = sum(described["bytes"] for described in splits.values())
        assert total > 5_000_000
        assert splits["train"]["bytes"] > 0.75 * total
        assert min(splits["validation"]["tokens"], splits["test"]["tokens"]) > 16 * 16 * 129
        assert 1.5 < (library.bytes_per_token("validation") or 0.0) < 3.5

    def test_a_validation_document_is_a_file_of_the_library(self, library: Dataset):
        files = {document.text for document in read_documents("python-stdlib")}
        assert set(split_texts(library, "validation")) <= files

    def test_a_warm_prepare_tokenizes_nothing(self, library: Dataset, library_cache: Path):
        started = time.process_time()
        assert prepare_dataset(DataConfig(tokenizer_bytes=1_000_000), 512, library_cache) == library.path
        assert time.process_time() - started < 1.0


def test_the_manifest_is_json_that_names_source_and_hashes(dataset: Dataset, folder: Path):
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    assert manifest == dataset.manifest
    assert manifest["source"] == f"text:{folder}"
    assert len(manifest["dataset_hash"]) == len(manifest["tokenizer_sha256"]) == 64


def _validation_text(filling: str) -> str:
    """The filling after a number that makes its hash fall into validation (bucket 0)."""
    texts = (f"{number:06} {filling}" for number in range(100_000))
    return next(text for text in texts if is_held_out(text.encode()))
