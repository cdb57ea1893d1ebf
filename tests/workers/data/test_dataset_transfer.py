"""A prepared dataset on its way to machines that do not share the driver's disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.tests.support.tiny_runs import tiny_dataset
from primer_search.workers.data import dataset_transfer
from primer_search.workers.data.dataset import Dataset
from primer_search.workers.data.dataset_transfer import dataset_files, find_local_dataset, install_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of another machine."""
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path))
    return tmp_path / "data"


def test_a_dataset_arrives_whole_and_is_found_by_its_name(dataset: Path, elsewhere: Path) -> None:
    foreign = f"/nowhere/{dataset.name}"
    assert find_local_dataset(foreign) is None
    files = dataset_files(str(dataset))
    assert install_dataset(dataset.name, tuple(files), tuple(files.values())) == elsewhere / dataset.name
    assert find_local_dataset(foreign) == elsewhere / dataset.name
    assert Dataset.open(elsewhere / dataset.name).dataset_hash == Dataset.open(dataset).dataset_hash
    install_dataset(dataset.name, tuple(files), tuple(files.values()))  # another worker of that machine, later
    assert [path.name for path in elsewhere.iterdir()] == [dataset.name]


def test_a_dataset_at_its_own_path_is_used_there(dataset: Path, elsewhere: Path) -> None:
    assert find_local_dataset(str(dataset)) == dataset


def test_a_dataset_damaged_on_the_way_is_refused_and_leaves_nothing(dataset: Path, elsewhere: Path) -> None:
    files = dataset_files(str(dataset))
    changed = {name: np.array(content) for name, content in files.items()}
    changed["train.bin"][0] ^= 1
    with pytest.raises(UsageError, match="damaged"):
        install_dataset(dataset.name, tuple(changed), tuple(changed.values()))
    assert list(elsewhere.iterdir()) == []


def test_one_too_large_is_refused_with_a_remedy(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_transfer, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match=r"at most .* GiB .* set PRIMER_SEARCH_CACHE to a folder"):
        dataset_files(str(dataset))
