"""Splits by document, and copies: what shares words never stands on both sides of a split."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.workers.config import DataConfig
from primer_search.workers.data import near_duplicates
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.near_duplicates import BANDS, cluster_labels, normalized, sketches, text_key
from primer_search.workers.data.splits import EXCLUDED, SPLITS, assign_splits, exclude_repetitions, residue_counts
from primer_search.workers.data.text_sources import read_documents
from primer_search.workers.data.tokenizer import END_OF_DOCUMENT

WORDS = ("".join(random.Random(n).choices("etaoinshrdlu", k=2 + n % 7)) for n in range(4000))
LEXICON = list(WORDS)

KEYS = ["0x21edfc3815dca77", "0x97dcd2f43e714b8c"]
FIRST_BANDS = ["0x5a939cecc0ca6530", "0xa3c3133b31a6c81d"]


def prose(seed: int, words: int = 300) -> str:
    return " ".join(random.Random(seed).choices(LEXICON, k=words))


def edited(text: str, share: float, seed: int = 0) -> str:
    """The text with this share of its words replaced."""
    rng = random.Random(seed)
    return " ".join(rng.choice(LEXICON) if rng.random() < share else word for word in text.split(" "))


def splits_of(folder: Path, cache: Path) -> dict[str, str]:
    """The split of each text that the dataset of a folder holds."""
    dataset = Dataset.open(prepare_dataset(DataConfig(f"text:{folder}"), 300, cache))
    tokenizer = dataset.tokenizer()
    held = {split: tokenizer.decode(getattr(dataset, split).tolist()).split(END_OF_DOCUMENT)[:-1] for split in SPLITS}
    found = {text: split for split, texts in held.items() for text in texts}
    assert len(found) == sum(map(len, held.values())), "a text stands twice"
    return found


def write(folder: Path, texts: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:05}.txt").write_text(text, encoding="utf-8")
    return folder


def labels_of(texts: list[str]) -> np.ndarray:
    keys, bands = sketches([text.encode() for text in texts])
    cluster_labels(keys, list(bands.T.copy()))
    return keys


class TestSplits:
    def test_repeated_documents_are_in_one_split_once(self, tmp_path: Path):
        texts = [prose(number) for number in range(60)]
        alone = splits_of(write(tmp_path / "once", texts), tmp_path / "cache")
        assert splits_of(write(tmp_path / "twice", texts * 2), tmp_path / "cache") == alone

    def test_a_document_keeps_its_split_when_others_come(self, tmp_path: Path):
        texts = [prose(number) for number in range(400)]
        before = splits_of(write(tmp_path / "a", texts), tmp_path / "cache")
        after = splits_of(write(tmp_path / "a", [*texts, prose(999)]), tmp_path / "cache")
        assert len(after) == 401
        assert all(after[text] == split for text, split in before.items())

    @pytest.mark.parametrize("count", [3, 4, 10, 60, 600])
    def test_every_split_has_text_however_few_the_documents(self, count: int, tmp_path: Path):
        texts = [prose(number, 1500) for number in range(count)]
        found = splits_of(write(tmp_path / "texts", texts), tmp_path / "cache")
        total = sum(map(len, texts))
        share = {split: sum(len(text) for text, its in found.items() if its == split) / total for split in SPLITS}
        assert min(share.values()) >= 0.01
        assert count < 60 or share["train"] > 0.7
        assert sum(share.values()) == pytest.approx(1.0)

    def test_a_document_larger_than_the_rest_is_trained_on(self):
        for seed in range(200):
            labels = np.array([text_key(prose(seed + n).encode()) for n in range(3)], np.uint64)
            places = assign_splits(labels, np.array([50_000, 900, 1000], np.uint64), residue_counts(frozenset(), 3))
            assert places[0] == 0
            assert set(places) == {0, 1, 2}

    def test_blank_documents_are_left_out(self, tmp_path: Path):
        texts = [*(prose(number) for number in range(20)), " \n", "\t"]
        assert len(splits_of(write(tmp_path / "texts", texts), tmp_path / "cache")) == 20

    @pytest.mark.parametrize("texts", [["one " * 5000], ["same " * 5000] * 5, ["a", "b", "c", "d"], [" "]])
    def test_too_little_text_is_refused_with_what_is_needed_and_leaves_nothing(self, texts: list[str], tmp_path: Path):
        write(tmp_path / "texts", [*texts, "."])
        with pytest.raises(UsageError, match=r"use at least 3 documents and 10000 bytes"):
            prepare_dataset(DataConfig(f"text:{tmp_path / 'texts'}"), 300, tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())

    def test_many_documents_are_split_by_hash_alone_as_few_are(self, monkeypatch: pytest.MonkeyPatch):
        labels = np.random.default_rng(0).integers(0, 2**64, 50_000, np.uint64)
        sizes = np.full(50_000, 100, np.uint64)
        wanted = residue_counts(frozenset(), 50_000)
        exact = assign_splits(labels, sizes, wanted)
        monkeypatch.setattr("primer_search.workers.data.splits.FILL_LIMIT", 1000)
        assert np.array_equal(assign_splits(labels, sizes, wanted), exact)
        assert np.bincount(exact) / 50_000 == pytest.approx([0.95, 0.025, 0.025], abs=0.005)

    def test_a_published_set_gives_one_train_document_in_200_for_each_split_it_lacks(self):
        assert residue_counts(frozenset({"train", "test"}), 10**6) == {"validation": 1}
        assert residue_counts(frozenset({"train"}), 10**6) == {"validation": 1, "test": 1}
        assert residue_counts(frozenset(SPLITS), 10**6) == {}

    @pytest.mark.parametrize(("documents", "share"), [(600, 0.1), (9_999, 0.1), (10_000, 0.025)])
    def test_a_source_of_few_documents_gives_a_larger_share(self, documents: int, share: float):
        labels = np.random.default_rng(0).integers(0, 2**64, documents, np.uint64)
        sizes = np.full(documents, 1000, np.uint64)
        places = assign_splits(labels, sizes, residue_counts(frozenset(), documents))
        assert np.bincount(places)[1:] / documents == pytest.approx([share] * 2, rel=0.3)

    def test_the_first_of_equal_documents_stays(self):
        digests = np.array([5, 7, 5, 7, 9, 5], np.uint64)
        kept = exclude_repetitions(np.array([0, 1, 0, 1, 2, 0], np.uint8), digests)
        assert kept.tolist() == [0, 1, EXCLUDED, EXCLUDED, 2, EXCLUDED]


class TestNearDuplicates:
    @pytest.mark.parametrize(
        "text",
        [
            "THE CAT SAT",
            "the  cat\nsat",
            "The cat, (sat)!",
            "“The” cat — sat…",
            "the\u00a0cat\u2009sat",
            "the　cat。sat",
        ],
    )
    def test_case_punctuation_and_spacing_make_no_other_text(self, text: str):
        assert text_key(text.encode()) == text_key(b"the cat sat")

    @pytest.mark.parametrize("text", ["the cat sits", "the cats at", "the cat sat 2", "thé cat sat", "tom"])
    def test_other_words_do(self, text: str):
        assert text_key(text.encode()) != text_key(b"the cat sat")

    def test_keys_and_bands_are_those_of_every_machine(self):
        """A split must not move with Python, NumPy or the byte order."""
        text = " ".join(str(number**3) for number in range(60)).encode()
        keys, bands = sketches([text, "Çà et là, déjà vu".encode()])
        assert [hex(key) for key in keys] == KEYS
        assert [hex(band) for band in bands[0, :2]] == FIRST_BANDS

    @pytest.mark.parametrize(("share", "most"), [(0.2, 0.005), (0.33, 0.02)])
    def test_a_header_that_different_documents_share_does_not_make_them_copies(self, share: float, most: float):
        header = prose(-1, int(250 * share / (1 - share)))
        labels = labels_of([f"{header} {prose(seed, 250)}" for seed in range(400)])
        assert 1 - len(set(labels.tolist())) / 400 <= most

    def test_text_of_signs_alone_is_not_all_one_text(self):
        assert normalized(b" -- ") == b"--"
        assert text_key(b"...") != text_key(b"+++")

    @pytest.mark.parametrize("words", [100, 400, 5000])
    def test_documents_that_differ_in_a_few_words_share_a_label(self, words: int):
        found = 0
        for seed in range(100):
            text = prose(seed, words)
            first, second = labels_of([text, edited(text, 0.01, seed)])
            found += first == second
        assert found >= 99

    def test_unrelated_documents_do_not(self):
        labels = labels_of([prose(seed, 400) for seed in range(500)])
        assert len(set(labels.tolist())) == 500

    def test_copies_of_copies_share_the_least_key_in_whatever_order(self):
        texts = [prose(0, 600)]
        for seed in range(1, 12):
            texts.append(edited(texts[-1], 0.02, seed))
        assert len(set(labels_of(texts).tolist())) == 1
        shuffled = random.Random(0).sample(texts, len(texts))
        assert set(labels_of(shuffled)) == set(labels_of(texts)) == {min(text_key(text.encode()) for text in texts)}

    def test_sorting_in_parts_finds_the_same_copies(self, monkeypatch: pytest.MonkeyPatch):
        texts = [prose(seed % 40, 200) + (" again" if seed >= 40 else "") for seed in range(80)]
        whole = labels_of(texts)
        monkeypatch.setattr(near_duplicates, "PARTITION", 7)
        assert np.array_equal(labels_of(texts), whole)
        assert len(set(whole.tolist())) == 40

    def test_near_copies_in_a_folder_never_straddle_splits(self, tmp_path: Path):
        texts = [edited(prose(family), 0.01, copy) for family in range(150) for copy in range(4)]
        found = splits_of(write(tmp_path / "texts", texts), tmp_path / "cache")
        families = [{found[text] for text in texts[start:end]} for start, end in pairwise(range(0, 601, 4))]
        assert [splits for splits in families if len(splits) > 1] == []
        assert {split for splits in families for split in splits} == set(SPLITS)

    def test_the_code_pages_of_the_standard_library_are_one_family(self):
        pages = [document.text for document in read_documents("python-stdlib") if "encodings/iso8859_" in document.name]
        assert len(pages) > 10
        assert len(set(labels_of(pages).tolist())) < len(pages) / 2

    def test_a_short_document_has_its_key_for_bands(self):
        keys, bands = sketches([b"A short one."])
        assert bands.tolist() == [[keys[0]] * BANDS]
