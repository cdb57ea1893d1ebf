"""Arrays of token ids and tokenizers of the user become datasets; faults are refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.tests.support.tiny_runs import write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, check_source, prepare_dataset
from primer_search.workers.data.user_tokenizers import ForeignTokenizer, read_tokenizer


def prepared(folder: Path, source: str, vocabulary: int = 300, tokenizer: str = "") -> Dataset:
    return Dataset.open(prepare_dataset(DataConfig(source, tokenizer=tokenizer), vocabulary, folder / "cache"))


def saved(folder: Path, ids: np.ndarray, name: str = "ids.npy") -> str:
    np.save(folder / name, ids)
    return f"tokens:{folder / name}"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of whole words that other software could have written."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.WordLevel(unk_token="<unk>"))  # type: ignore[call-arg]
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    folder = tmp_path_factory.mktemp("tokenizer")
    text = [path.read_text() for path in sorted(write_text(folder / "text").iterdir())]
    inner.train_from_iterator(text, trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"]))
    inner.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, ">i4"])
def test_a_stream_of_ids_keeps_its_order_and_its_last_part_is_held_out(tmp_path: Path, dtype: str) -> None:
    ids = np.random.default_rng(0).integers(0, 300, 40_000).astype(dtype)
    dataset = prepared(tmp_path, saved(tmp_path, ids))
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [38_000, 1000, 1000]
    np.testing.assert_array_equal(np.concatenate([dataset.train, dataset.validation, dataset.test]), ids)
    assert not dataset.has_text
    assert dataset.nats_per_token_to_bits_per_byte(2.0, "validation") is None
    assert dataset.nats_per_token_to_word_perplexity(2.0, "validation") is None
    assert dataset.tokenizer().size == 300


def test_rows_stay_whole_and_the_same_array_is_prepared_once(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 100, (101, 33), dtype=np.int32)
    source = saved(tmp_path, ids)
    dataset = prepared(tmp_path, source)
    assert len(dataset.validation) == len(dataset.test) == 2 * 33
    np.testing.assert_array_equal(dataset.test, ids[-2:].ravel())
    assert dataset.manifest["splits"]["train"]["documents"] == 97
    assert prepared(tmp_path, source).path == dataset.path
    saved(tmp_path, ids + 1)
    assert prepared(tmp_path, source).dataset_hash != dataset.dataset_hash


def test_a_vocabulary_is_given_in_the_source_or_beside_it(tmp_path: Path) -> None:
    source = saved(tmp_path, np.arange(2000) % 290)
    assert prepared(tmp_path, f"{source}?vocabulary=290").tokenizer().size == 290
    (tmp_path / "ids.json").write_text(json.dumps({"vocabulary": 280}))
    with pytest.raises(UsageError, match="holds the id 289, but the vocabulary has only 280 ids"):
        prepared(tmp_path, source)
    with pytest.raises(UsageError, match=r"set model\.vocabulary=400"):
        prepared(tmp_path, f"{source}?vocabulary=400")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.arange(2000.0), "array of float64 with 1 axes"),
        (np.zeros((5, 20, 20), int), "with 3 axes"),
        (np.arange(2000), "holds the id 1899, but the vocabulary has only 300 ids"),
        (np.full(2000, -1), "holds the id -1: token ids start at 0"),
        (np.arange(50), "has 50 ids: use at least 1000"),
        (np.array([{}] * 2000, dtype=object), "cannot be read as a NumPy array"),
    ],
)
def test_arrays_that_hold_no_ids_are_refused(tmp_path: Path, ids: np.ndarray, words: str) -> None:
    np.save(tmp_path / "ids.npy", ids, allow_pickle=True)
    with pytest.raises(UsageError, match=words) as refusal:
        prepared(tmp_path, f"tokens:{tmp_path / 'ids.npy'}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("source", ["tokens:", "tokens:nowhere.npy", "tokens:ids.txt", "tokens:ids.npy?size=3"])
def test_sources_that_name_no_array_are_refused(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, np.arange(2000) % 300)
    with pytest.raises(UsageError, match=r"tokens:"):
        check_source(source)


def test_text_is_encoded_by_an_own_tokenizer(tmp_path: Path, foreign: Path) -> None:
    dataset = prepared(tmp_path, f"text:{foreign.parent / 'text'}", tokenizer=f"hf-tokenizer:{foreign}")
    tokenizer = dataset.tokenizer()
    assert isinstance(tokenizer, ForeignTokenizer)
    words = tokenizer.decode(dataset.validation.tolist()).split()
    assert {"the", "cat", "river"} <= set(words)
    assert dataset.train[-1] == tokenizer.end_of_document == read_tokenizer(foreign.read_text()).end_of_document
    assert dataset.has_text
    assert 2.0 < (dataset.bytes_per_token("validation") or 0.0) < 6.0
    assert "".join(tokenizer.decode_stream(tokenizer.encode("the cat sat"))).split() == ["the", "cat", "sat"]


def test_ids_with_a_tokenizer_have_bytes(tmp_path: Path, foreign: Path) -> None:
    tokenizer = read_tokenizer(foreign.read_text())
    source = saved(tmp_path, np.array(tokenizer.encode("the cat sat on a mat " * 400)))
    dataset = prepared(tmp_path, source, tokenizer=f"hf-tokenizer:{foreign}")
    assert 3.0 < (dataset.bytes_per_token("train") or 0.0) < 4.5
    assert prepared(tmp_path, source).dataset_hash != dataset.dataset_hash


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("tokenizer.json", "must be hf-tokenizer:PATH"),
        ("hf-tokenizer:nowhere.json", "cannot be read"),
        ("hf-tokenizer:{folder}/broken.json", "the tokenizer cannot be read"),
        ("hf-tokenizer:{folder}/ids.json", "has no text"),
        ("hf-tokenizer:{foreign}", "set model.vocabulary="),
    ],
)
def test_tokenizers_that_do_not_fit_are_refused(tmp_path: Path, foreign: Path, setting: str, words: str) -> None:
    (tmp_path / "broken.json").write_text('{"model": 3}')
    (tmp_path / "ids.json").write_text('{"token_ids": 3}')
    with pytest.raises(UsageError, match=words):
        prepared(
            tmp_path,
            f"text:{foreign.parent / 'text'}",
            vocabulary=20,
            tokenizer=setting.format(folder=tmp_path, foreign=foreign),
        )
