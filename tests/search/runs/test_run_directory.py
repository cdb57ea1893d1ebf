"""The folder of a run: how it is made, found, and asked to stop."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.search.runs.run_directory import RunDirectory, create_run_directory, find_run, new_run_directory
from primer_search.search.runs.store import Store


def test_a_run_is_found_by_its_folder_its_store_or_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="nowhere: no such directory; start one with"):
        find_run("nowhere")
    run = new_run_directory(seed=2, now=datetime(2026, 3, 14, 15, 9, 26))
    Store.create(run.path, {}).close()
    for name in ("runs/20260314-150926-seed2", "runs/20260314-150926-seed2/run.sqlite", "20260314-150926-seed2"):
        assert find_run(name) == run == RunDirectory(Path("runs/20260314-150926-seed2"))
    with pytest.raises(UsageError, match="the latest run under runs is runs/20260314-150926-seed2"):
        find_run("runs")
    with pytest.raises(UsageError, match="cannot look for a run in"):
        find_run("x" * 5000)


def test_a_run_directory_is_made_once(tmp_path: Path) -> None:
    now = datetime(2026, 3, 14, 15, 9, 26)
    first, second = (new_run_directory(0, now, tmp_path / "runs") for _ in range(2))
    assert [run.path.name for run in (first, second)] == ["20260314-150926-seed0", "20260314-150926-seed0-2"]
    assert create_run_directory(first.path) == first
    first.log.touch()
    first.lock.touch()
    assert create_run_directory(first.path) == first, "a search died there before it had a store"
    (first.path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"not empty.*--run-dir"):
        create_run_directory(first.path)
    Store.create(second.path, {}).close()
    for again in (lambda: create_run_directory(second.path), lambda: Store.create(second.path, {})):
        with pytest.raises(UsageError, match=r"holds a run.*primer-search resume"):
            again()
    with pytest.raises(UsageError, match="below-a-file"):
        create_run_directory(first.log / "below-a-file")


def test_a_request_to_stop_is_seen_until_it_is_cleared(tmp_path: Path) -> None:
    run = create_run_directory(tmp_path / "run")
    assert not run.stop_requested()
    run.request_stop()
    run.request_stop()
    assert run.stop_requested()
    run.clear_stop()
    run.clear_stop()
    assert not run.stop_requested()
