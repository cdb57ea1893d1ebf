"""Damaged stores: they are recognized, what can be read is brought back, and the search continues."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError, WorkFailedError
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.recovery.audit import audit, refuse_damaged
from primer_search.search.recovery.repair import check_run, repair
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.tests.search.recovery.test_faults_by_chance import FAULTY, evaluate, memory
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.faulty_executor import FaultyExecutor
from primer_search.tests.support.tiny_runs import BASELINE, open_controller, stop_after

PAGE = 4096


def search(run: RunDirectory, candidates: int, workers: int = 3) -> Any:
    """Search until there are enough candidates, and return what the controller knows."""
    executor = FaultyExecutor(evaluate, slots=workers, rates={})
    stop = stop_after(run, candidates)
    with open_controller(run, Path(), FAULTY, executor=executor, observe=stop) as (controller, _):
        controller.run(600.0)
        return memory(controller)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 candidates, all in the store's file."""
    run = RunDirectory(tmp_path_factory.mktemp("whole") / "run")
    run.path.mkdir()
    manifest = {"config": FAULTY.to_dict(), "seed": 0, "workers": 1, "baseline_dna": dna_to_json(BASELINE)}
    Store.create(run.path, manifest).close()
    search(run, 40)
    return run.path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def damage(file: Path, page: int, length: int = PAGE) -> None:
    """Write random bytes over a page, or the first part of it; pages count from 0."""
    with file.open("r+b") as opened:
        opened.seek(page * PAGE)
        opened.write(np.random.default_rng(page).bytes(length))


def contents(path: Path) -> tuple[dict[int, Any], dict[int, Any]]:
    with Store.open(path, read_only=True) as store:
        return {each.id: each for each in store.candidates()}, {each.trial_id: each for each in store.evaluations()}


def test_every_torn_page_is_noticed_or_harmless_and_repaired(whole: Path, tmp_path: Path) -> None:
    programs, results = contents(whole)
    pages = (whole / "run.sqlite").stat().st_size // PAGE
    assert pages > 20
    repaired = 0
    for page in range(pages):
        path = Path(shutil.copytree(whole, tmp_path / f"{page}"))
        damage(path / "run.sqlite", page, PAGE if page % 2 else PAGE // 2)
        findings = check_run(path)
        try:
            done = repair(path)
        except WorkFailedError as error:
            assert "cannot be repaired" in str(error) and "config" in str(error)
            continue
        repaired += done.damaged is not None
        assert bool(findings) == (done.damaged is not None)
        assert check_run(path) == []
        kept, evaluations = contents(path)
        lost = done.losses
        assert kept.keys() == programs.keys() - set(lost.candidates)
        assert all(kept[number].dna == programs[number].dna for number in kept)
        assert all(each.evaluation == results[trial].evaluation for trial, each in evaluations.items())
        assert len(lost.candidates) + len(lost.trials) < 40
    assert repaired > pages - 6


def test_a_repaired_search_continues_with_all_that_is_left(copy: Path) -> None:
    with sqlite3.connect(copy / "run.sqlite") as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        lost = raw.execute("SELECT parent FROM candidates WHERE parent > 0 AND same_as IS NULL").fetchone()[0]
        raw.execute("DELETE FROM candidates WHERE id = ?", (lost,))
        trial = raw.execute("SELECT max(trial_id) FROM evaluations").fetchone()[0]
        retrained = raw.execute("SELECT candidate_id FROM evaluations WHERE trial_id = ?", (trial,)).fetchone()[0]
        raw.execute("DELETE FROM evaluations WHERE trial_id = ?", (trial,))
    raw.close()
    with Store.open(copy) as store, pytest.raises(WorkFailedError, match=f"is damaged: .*repair {copy}"):
        refuse_damaged(store)
    result = command("repair", copy, "--json")
    assert result.code == 0, result.err
    assert lost in result.json["lost_candidates"] and trial in result.json["lost_trials"]
    with Store.open(copy, read_only=True) as store:
        heirs = [each for each in store.candidates() if each.mutations and "Lost ancestor" in each.mutations[0]]
        assert heirs and {each.parent for each in heirs} == {0}
        assert leaderboard(store).rows
        before = max(each.id for each in store.candidates())
    search(RunDirectory(copy), before + 5)
    with Store.open(copy, read_only=True) as store:
        assert audit(store) == []
        assert retrained in {each.candidate_id for each in store.evaluations()}
        assert max(each.id for each in store.candidates()) > before


def test_a_consistent_run_is_not_touched(copy: Path) -> None:
    before = (copy / "run.sqlite").read_bytes()
    assert "nothing to repair" in command("repair", copy).out
    assert (copy / "run.sqlite").read_bytes() == before
    assert command("repair", copy, "--check").out == f"run {copy} is consistent\n"
    damage(copy / "run.sqlite", 5)
    result = command("repair", copy, "--check")
    assert result.code == 1 and "is damaged: the file" in result.err
    with Store.open(copy.parent / "run", read_only=True), pytest.raises(UsageError, match="is being written"):
        lock = open_lock(copy)
        try:
            repair(copy)
        finally:
            lock.release()


def open_lock(path: Path) -> Any:
    from primer_search.search.runs.run_directory import ControllerLock

    return ControllerLock(RunDirectory(path))


def test_a_lost_log_is_noticed_and_accepted_by_a_repair_alone(copy: Path) -> None:
    run = RunDirectory(copy)
    with Store.open(copy) as store:
        store.add_event("note", {"why": "an event in the file"})
        store._execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for line in range(3):
            store.add_event("note", {"why": f"event {line} in the log"})
        last = store.last_sequence()
        shutil.copytree(copy, copy.with_name("incomplete"))
    incomplete = copy.with_name("incomplete")
    log = incomplete / "run.sqlite-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 100)  # the last event is torn
    (incomplete / "run.sqlite-shm").unlink()
    sentence = rf"has lost its last 1 of {last} events: .*`primer-search repair {incomplete}`"
    with pytest.raises(WorkFailedError, match=sentence):
        Store.open(incomplete)
    result = command("repair", incomplete)
    assert result.code == 0 and "1 events" in result.out, result
    with Store.open(incomplete) as store:
        assert store.events()[-2].payload == {"why": "event 1 in the log"}
    assert check_run(run.path) == []


def test_a_torn_frame_of_the_log_costs_its_own_page_alone(copy: Path) -> None:
    """SQLite ignores all that follows a torn frame."""
    with Store.open(copy) as store:
        for line in range(40):
            store.add_event("note", {"why": f"{line} " + "x" * 3000})
        torn = Path(shutil.copytree(copy, copy.with_name("torn")))
    log = torn / "run.sqlite-wal"
    (torn / "run.sqlite-shm").unlink()
    with log.open("r+b") as file:
        file.seek(32 + 10 * (24 + PAGE) + 2000)
        file.write(os.urandom(100))
    raw = sqlite3.connect(f"file:{torn / 'run.sqlite'}?mode=ro", uri=True)
    assert raw.execute("SELECT count(*) FROM events WHERE kind = 'note'").fetchone()[0] < 12
    raw.close()
    for _ in range(2):  # a refusal must not delete the log
        with pytest.raises(WorkFailedError, match="has lost its last"):
            Store.open(torn)
    assert "events are missing" in check_run(torn)[0]
    done = repair(torn)
    assert len(done.losses.events) <= 2 and not done.losses.candidates
    with Store.open(torn, read_only=True) as store:
        assert store.event_count("note") >= 38


def test_a_run_that_vanishes_or_moves_stops_its_controller(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    turns = 0

    def observe(state: Any) -> None:
        nonlocal turns
        turns += 1
        if turns == 5:
            run.path.rename(tmp_path / "moved")

    with pytest.raises(WorkFailedError, match="was moved, deleted or replaced while it was written"):  # noqa: SIM117
        with open_controller(run, Path(), FAULTY, executor=FaultyExecutor(evaluate), observe=observe) as (search, _):
            search.run(600.0)
    assert check_run(tmp_path / "moved") == []


def test_of_two_controllers_without_a_lock_one_stops_before_it_writes(tmp_path: Path) -> None:
    with Store.create(tmp_path, {}) as first:
        first.add_event("note", {"why": "first"})
        first.run.lock.unlink()
        with Store.open(tmp_path) as second:
            second.add_event("note", {"why": "second"})
            with pytest.raises(WorkFailedError, match="another process has written run"):
                first.add_event("note", {"why": "never written"})
            second.add_event("note", {"why": "second again"})
        assert [event.payload["why"] for event in first.events() if event.kind == "note"] == [
            "first", "second", "second again"
        ]  # fmt: skip


def test_clean_deletes_what_is_left_over_and_nothing_else(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(copy.parent / "cache"))
    (copy.parent / "cache" / "compiled").mkdir(parents=True)
    for name in ("run.sqlite.partial", ".report.html.1a2b3c4d"):
        (copy / name).write_bytes(b"x" * 1000)
    damage(copy / "run.sqlite", 5)
    assert command("repair", copy).code == 0
    kept = {path.name for path in copy.iterdir()}
    shown = command("clean", copy, "--dry-run", "--json").json["parts"]
    assert {path.name for path in copy.iterdir()} == kept and not any(part["deleted"] for part in shown)
    (left,) = [part for part in shown if part["what"].startswith("leftovers")]
    assert left["bytes"] == 2000
    assert "(deleted)" in command("clean", copy).out
    assert {path.name for path in copy.iterdir()} == kept - {"run.sqlite.partial", ".report.html.1a2b3c4d", "damaged-1"}
    assert (copy.parent / "cache" / "compiled").exists()
    command("clean", "--cache")
    assert not (copy.parent / "cache" / "compiled").exists()
    assert check_run(copy) == []
    with Store.open(copy):
        (copy / "run.sqlite.partial").touch()
        assert "is being written" in refused("clean", copy)
