"""Runs written by earlier versions: a stored run of each schema opens with the results it had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from primer_search.primitives.errors import UsageError, WorkFailedError
from primer_search.search.config import RunConfig
from primer_search.search.evolution.initial_programs import read_initial_programs
from primer_search.search.recovery.page_reader import schema_version
from primer_search.search.recovery.repair import check_run, repair
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.run_directory import ControllerLock, RunDirectory
from primer_search.search.runs.schema import MIGRATIONS
from primer_search.search.runs.store import Store
from primer_search.tests.support.command import command

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run of schema 1: initial programs, five candidates, a confirmation, and a retraining at another scale."""
    return Path(shutil.copytree(FIXTURES / "run_of_schema_1", tmp_path / "run"))


@pytest.fixture
def run_of_schema_2(tmp_path: Path) -> Path:
    """A run of schema 2, whose candidates have no unit: an initial program and six other candidates."""
    return Path(shutil.copytree(FIXTURES / "run_of_schema_2", tmp_path / "run"))


def stored_results(run: Path) -> Any:
    return json.loads((run / "leaderboard.json").read_text())


def test_reading_upgrades_the_run_and_shows_the_results_it_had(old_run: Path) -> None:
    stored = stored_results(old_run)
    board = command("leaderboard", old_run, "--json").json
    assert {name: board["baseline"][name] for name in stored["seed"]} == stored["seed"]
    assert [{name: row[name] for name in stored["candidates"][0]} for row in board["candidates"]] == stored[
        "candidates"
    ]
    confirmed = [{**row, "name": "baseline" if row["name"] == "seed" else row["name"]} for row in stored["confirmed"]]
    assert [{name: row[name] for name in confirmed[0]} for row in board["confirmed"]] == confirmed
    ladder = [[(each["name"], each["rank"]) for each in scale["programs"]] for scale in board["ladder"]["scales"]]
    assert ladder == [
        [("baseline" if each["name"] == "seed" else each["name"], each["rank"]) for each in scale]
        for scale in stored["ladder"]
    ]


def test_the_manifest_carries_the_words_of_today(old_run: Path) -> None:
    with Store.open(old_run, read_only=True) as store:
        assert store.schema_version == len(MIGRATIONS)
        config = RunConfig.from_dict(store.manifest["config"])
        assert (config.search.baseline, config.search.baseline_trials) == ("TRANSFORMER", 2)
        assert [each.origin for each in read_initial_programs(store.manifest)] == ["PRIMER_EZ", "TRANSFORMER_GELU"]
        assert store.manifest["baseline_dna"]
        moved = [trial.evaluation.moved_logits for trial in store.evaluations()]
        assert all(value is not None for value in moved)
    with Store.open(old_run) as store, pytest.raises(ValueError, match="append-only"):
        store._execute("UPDATE events SET kind = 'note'")


def test_the_log_of_a_scale_is_found_under_its_new_name(old_run: Path) -> None:
    Store.open(old_run).close()
    assert [file.name[:5] for file in old_run.glob("*layers=2*")] == ["scale"]


def test_a_run_that_another_process_is_writing_is_not_upgraded(old_run: Path) -> None:
    lock = ControllerLock(RunDirectory(old_run))
    with pytest.raises(UsageError, match="is being written by"):
        Store.open(old_run, read_only=True)
    lock.release()
    with Store.open(old_run, read_only=True) as store:
        assert len(store.candidates()) == 5


def test_candidates_of_schema_2_keep_the_configured_unit_and_their_results(run_of_schema_2: Path) -> None:
    stored = stored_results(run_of_schema_2)
    board = command("leaderboard", run_of_schema_2, "--json").json
    assert {name: board["baseline"][name] for name in stored["baseline"]} == stored["baseline"]
    found = [{name: row[name] for name in stored["candidates"][0]} for row in board["candidates"]]
    assert found == stored["candidates"]
    with Store.open(run_of_schema_2, read_only=True) as store:
        assert store.schema_version == len(MIGRATIONS)
        assert [candidate.unit for candidate in store.candidates()] == [None] * 7
        assert RunConfig.from_dict(store.manifest["config"]).model.parameter_range == ()
    shown = command("show", run_of_schema_2, "1")
    assert shown.code == 0 and "instead of" not in shown.out


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_stored_run_of_every_schema_passes_the_audit_and_is_repaired_after_damage(
    tmp_path: Path, version: int
) -> None:
    stored = FIXTURES / f"run_of_schema_{version}"
    assert schema_version(stored / "run.sqlite") == version
    torn = Path(shutil.copytree(stored, tmp_path / "torn"))
    with (torn / "run.sqlite").open("r+b") as file:
        file.write(b"torn" * 256)
    assert check_run(torn) == ["the first page of the file is damaged"]
    if version == 1:
        with pytest.raises(WorkFailedError, match="another version of primer-search wrote it"):
            repair(torn)
    else:
        repair(torn)
        assert command("leaderboard", torn, "--json").json["candidates"]
    run = Path(shutil.copytree(stored, tmp_path / "run"))
    assert check_run(run) == []
    with Store.open(run, read_only=True) as store:
        assert store.schema_version == len(MIGRATIONS)
        found = {row.id: row.loss_nats for row in leaderboard(store).rows}
        units = {candidate.unit for candidate in store.candidates()}
    results = stored_results(stored)["candidates"]
    assert results and {row["id"]: row["loss_nats"] for row in results}.items() <= found.items()
    assert (units == {None}) == (version < 3)
