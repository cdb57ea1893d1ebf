"""Locks on files and folders."""

from __future__ import annotations

import os
import time
from pathlib import Path

from primer_search.system.locks import lock_folder, scratch_folder, try_lock


def test_shared_locks_exclude_exclusive_ones_alone(tmp_path: Path):
    (tmp_path / "lock").touch()
    first, second, third = (os.open(tmp_path / "lock", os.O_RDONLY) for _ in range(3))
    try:
        assert try_lock(first, shared=True)
        assert try_lock(second, shared=True)
        start = time.monotonic()
        assert not try_lock(third, timeout_seconds=0.1)
        assert time.monotonic() - start >= 0.1
        os.close(first)
        os.close(second)
        assert try_lock(third)
    finally:
        os.close(third)


def test_a_scratch_folder_is_empty_at_first_and_gone_in_the_end(tmp_path: Path):
    (tmp_path / "scratch" / "of a killed one").mkdir(parents=True)
    (tmp_path / "scratch" / "file").touch()
    with scratch_folder(tmp_path / "scratch") as folder:
        assert not list(folder.iterdir())
        (folder / "file").touch()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_moved_away_is_not_given_out(tmp_path: Path):
    with lock_folder(tmp_path / "draft") as draft:
        assert draft is not None and draft == tmp_path / "draft" and draft.is_dir()
        draft.rename(tmp_path / "done")
    with lock_folder(tmp_path / "draft") as draft:
        assert draft is not None and not list(draft.iterdir())
