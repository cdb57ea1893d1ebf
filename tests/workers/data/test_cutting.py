"""Long documents: cut wherever they lie, copies on one side of a split, warnings where that is not enough."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.tests.workers.data.test_splits import edited
from primer_search.tests.workers.data.test_splits import write as write_texts
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.splits import SPLITS, warn_of_large_splits
from primer_search.workers.data.tokenizer import END_OF_DOCUMENT
from primer_search.workers.data.user_text.cutting import AHEAD, PIECE, cut, piece_size

LEXICON = ["".join(random.Random(n).choices("etaoinshrdlu", k=2 + n % 7)) for n in range(3000)]


def book(seed: int, characters: int) -> str:
    """Paragraphs of sentences, about so many characters."""
    draw, parts, size = random.Random(seed), [], 0
    while size < characters:
        sentences = [" ".join(draw.choices(LEXICON, k=draw.randint(5, 15))) + ".\n" for _ in range(draw.randint(1, 6))]
        parts.append("".join(sentences) + "\n")
        size += len(parts[-1])
    return "".join(parts)[:characters]


def prepared(folder: Path, cache: Path, lines: list[str] | None = None) -> Dataset:
    return Dataset.open(
        prepare_dataset(DataConfig(f"text:{folder}", 50_000), 300, cache, ([] if lines is None else lines).append)
    )


def shares(dataset: Dataset) -> dict[str, float]:
    sizes = {split: dataset.manifest["splits"][split]["bytes"] for split in SPLITS}
    return {split: size / sum(sizes.values()) for split, size in sizes.items()}


def pieces_of(dataset: Dataset, split: str) -> list[str]:
    return dataset.tokenizer().decode(getattr(dataset, split).tolist()).split(END_OF_DOCUMENT)[:-1]


@pytest.mark.parametrize("sizes", [(150_000,), (100_000, 100_000, 100_000), (3000, 200_000, 20_000), (40_000,) * 8])
def test_few_long_documents_give_about_a_tenth_to_each_split(sizes: tuple[int, ...], tmp_path: Path) -> None:
    texts = [book(number, size) for number, size in enumerate(sizes)]
    lines: list[str] = []
    dataset = prepared(write_texts(tmp_path / "books", texts), tmp_path / "cache", lines)
    assert all(0.04 < shares(dataset)[split] < 0.18 for split in SPLITS[1:])
    pieces = [piece for split in SPLITS for piece in pieces_of(dataset, split)]
    assert sorted("".join(pieces)) == sorted("".join(texts))
    assert not [line for line in lines if "warning" in line]


def test_pieces_joined_are_the_text_and_end_with_paragraphs() -> None:
    text = book(0, 200_000)
    pieces = list(cut((text[start : start + 5000] for start in range(0, len(text), 5000)), 1000))
    assert "".join(pieces) == text
    assert pieces == list(cut([text], 1000)), "the cuts depend on the blocks"
    assert all(1000 <= len(piece) <= 2000 and piece.endswith("\n\n") for piece in pieces[:-1])
    assert len(pieces[-1]) < 2000 + AHEAD
    assert list(cut([text[:2000]], 1000)) == [text[:2000]]


def test_a_long_text_without_lines_or_spaces_is_cut_too() -> None:
    assert [len(piece) for piece in cut(["x" * 10_000], 1000)] == [2000] * 5
    words = list(cut(["word " * 2000], 1000))
    assert all(piece.endswith(" ") for piece in words)


def test_the_size_of_the_pieces_follows_that_of_the_text() -> None:
    assert [piece_size(size) for size in (0, 10_000, 2_000_000, 10**9)] == [1024, 1024, 10_000, PIECE]


def test_copies_after_another_beginning_are_cut_at_the_same_places() -> None:
    text = book(1, 300_000)
    first = set(cut([text], 2000))
    second = set(cut([book(2, 7_777) + text], 2000))
    assert len(first & second) > 0.9 * len(first)


def test_no_piece_of_a_book_and_of_its_later_edition_are_in_different_splits(tmp_path: Path) -> None:
    first = book(3, 200_000)
    second = book(4, 5_000) + edited(first, 0.002).replace("e", "E", 50)
    dataset = prepared(write_texts(tmp_path / "books", [first, second]), tmp_path / "cache")
    held = {split: "".join(pieces_of(dataset, split)).lower() for split in SPLITS}
    assert all(0.02 < shares(dataset)[split] < 0.25 for split in SPLITS[1:])
    shared = {
        split: sum(start_of in held["train"] for start_of in probes) / len(probes)
        for split in SPLITS[1:]
        if (probes := [held[split][place : place + 200] for place in range(0, len(held[split]) - 200, 400)])
    }
    assert max(shared.values()) < 0.06, shared


def test_likeness_is_named_where_it_is_the_cause(tmp_path: Path) -> None:
    text = book(5, 1900)
    copies = [f"{text} version {number}" for number in range(20)]
    with pytest.raises(UsageError, match=r"near copies of each other.*only 1 of 3 splits.*text that differs more"):
        prepared(write_texts(tmp_path / "copies", copies), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_warning_says_that_far_more_is_held_out_than_planned(tmp_path: Path) -> None:
    families = [[f"{book(seed, 1900)} version {number}" for number in range(6)] for seed in range(3)]
    lines: list[str] = []
    texts = write_texts(tmp_path / "families", [text for family in families for text in family])
    dataset = prepared(texts, tmp_path / "cache", lines)
    assert max(shares(dataset)[split] for split in SPLITS[1:]) > 0.3
    (line,) = [line for line in lines if line.startswith("warning: ")]
    assert "far more text is held out than planned: validation 33% (planned 10.0%), test 33% (planned 10.0%)" in line
    again: list[str] = []
    prepared(texts, tmp_path / "cache", again)
    assert again == [line]


@pytest.mark.parametrize(("validation", "warned"), [(100, False), (199, False), (201, True)])
def test_the_warning_comes_at_twice_the_plan(validation: int, warned: bool) -> None:
    sizes = {"train": 900 - validation, "validation": validation, "test": 100}
    splits = {split: {"documents": 10, "bytes": size} for split, size in sizes.items()}
    assert bool(warn_of_large_splits(splits)) is warned
