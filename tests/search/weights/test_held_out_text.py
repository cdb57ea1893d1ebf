"""Where the text of a model is found, and its two parts."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from primer_search.models.checkpoint import Weights, save_weights
from primer_search.primitives import UsageError
from primer_search.search.refinement.paired_difference import paired_difference
from primer_search.search.weights.held_out_text import find_text, held_out_parts
from primer_search.tests.support.tiny_runs import BASELINE, tiny_dataset, write_text
from primer_search.tests.support.tiny_weights import SHAPE, drawn_weights
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import Dataset, prepare_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(tiny_dataset(tmp_path_factory.mktemp("text")))


def places(part: np.ndarray, text: np.ndarray) -> set[int]:
    """Return the places of the text that windows cover, each of which occurs once in it."""
    windows = np.lib.stride_tricks.sliding_window_view(text, part.shape[-1])
    found = {window.tobytes(): start for start, window in enumerate(windows)}
    assert len(found) == len(windows)
    return {found[window.tobytes()] + step for window in part.reshape(-1, part.shape[-1]) for step in range(9)}


@pytest.mark.parametrize(("share", "size"), [(0.2, 4000), (0.5, 4000), (0.5, 180), (0.2, 100)])
def test_the_parts_share_no_token_and_are_spread_over_the_text(dataset: Dataset, share: float, size: int) -> None:
    text = np.arange(size, dtype=np.int32)
    first, second = held_out_parts(replace(dataset, validation=text), length=8, tokens=10**9, share=share)
    assert first.shape[1:] == second.shape[1:]  # so that one compiled function reads both
    covered = places(first, text), places(second, text)
    assert not covered[0] & covered[1]
    assert len(covered[0]) == pytest.approx(share * size, rel=0.3)
    assert len(covered[1]) == pytest.approx((1 - share) * size, rel=0.3)
    if size == 4000:
        halves = [np.mean([place < size / 2 for place in part]) for part in covered]
        assert halves == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_number_of_tokens_is_about_that_asked_for(dataset: Dataset) -> None:
    first, second = held_out_parts(dataset, length=8, tokens=1000, share=0.2)
    assert first[..., 1:].size == pytest.approx(200, rel=0.1)
    assert second[..., 1:].size == pytest.approx(800, rel=0.1)


def test_a_text_that_is_too_short_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="too few for 2 parts"):
        held_out_parts(dataset, length=10**6, tokens=1000, share=0.5)


def saved(folder: Path, weights: Weights) -> Path:
    save_weights(folder, weights)
    return folder


def test_a_text_is_found_by_its_hash(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data").symlink_to(dataset.path.parent)
    weights = drawn_weights(BASELINE, dataset_hash=dataset.dataset_hash)
    found = find_text(weights, saved(tmp_path / "weights", weights))
    assert found.dataset_hash == dataset.dataset_hash


def test_a_text_that_is_gone_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    weights = drawn_weights(BASELINE, dataset_hash="0" * 64, data="text:somewhere")
    folder = saved(tmp_path / "weights", weights)
    with pytest.raises(UsageError, match="--data text:somewhere"):
        find_text(weights, folder)


def test_a_text_that_is_gone_from_the_cache_is_prepared_again_and_must_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    data = DataConfig(f"text:{write_text(tmp_path / 'text', 30)}", 50_000)
    first = Dataset.open(prepare_dataset(data, 300))
    record = {"dataset_hash": first.dataset_hash, "vocabulary": 300, "settings": {"data": asdict(data)}}
    shutil.rmtree(tmp_path / "cache")
    weights = drawn_weights(BASELINE, replace(SHAPE, vocabulary=307), **record)
    folder = saved(tmp_path / "weights", weights)
    assert find_text(weights, folder).dataset_hash == first.dataset_hash
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "text" / "1.txt").write_text("other words " * 50)
    with pytest.raises(
        UsageError,
        match=rf"cannot be prepared again \(.* is not the text that .*; name it with --data, .* {data.source}",
    ):
        find_text(weights, folder)


def test_another_text_is_read_with_the_tokenizer_of_the_model(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    weights = replace(drawn_weights(BASELINE), tokenizer=dataset.tokenizer().to_json())
    folder = saved(tmp_path / "weights", weights)
    other = find_text(weights, folder, f"text:{write_text(tmp_path / 'other', 30)}")
    assert other.vocabulary == weights.model.vocabulary
    assert other.tokenizer().encode("the cat") == dataset.tokenizer().encode("the cat")


def test_the_error_of_a_difference_is_that_of_its_mean(rng: np.random.Generator) -> None:
    values = rng.standard_normal(4000) + 0.5
    found = paired_difference(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(4000))
    assert found.beyond_noise
    assert not paired_difference(np.array([1.0, -1.0, 0.1])).beyond_noise
    assert paired_difference(np.array([1.0])).error is None
    assert paired_difference(np.array([np.inf, 0.0])).mean is None


def test_windows_with_fewer_tokens_count_less(rng: np.random.Generator) -> None:
    counts = rng.integers(1, 40, 3000).astype(float)
    tokens = [rng.standard_normal(int(count)) for count in counts]
    found = paired_difference(np.array([each.sum() for each in tokens]), counts)
    everything = np.concatenate(tokens)
    assert found.mean == pytest.approx(everything.mean())
    assert found.error == pytest.approx(everything.std() / np.sqrt(len(everything)), rel=0.1)  # independent tokens
