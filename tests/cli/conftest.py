"""Fixtures of the tests of commands: a separate cache, and a run with trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from primer_search.tests.support.command import command
from primer_search.tests.support.tiny_weights import tiny_run


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests of a module a separate cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with trained weights of candidate 1."""
    run = tiny_run(tmp_path_factory.mktemp("trained"))
    assert command("train", run, "1").code == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of that run that a test may change."""
    return shutil.copytree(trained, tmp_path / "run")
