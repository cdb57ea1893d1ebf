"""A run whose text lies elsewhere now: its tokens are found by hash, or prepared again from the new place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from primer_search.primitives import UsageError
from primer_search.search.config import RunConfig
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.run_settings import prepare_same_dataset
from primer_search.search.runs.store import Store
from primer_search.search.sessions.session import SessionOptions, resume
from primer_search.search.studies.ablation_programs import pair_from_run
from primer_search.search.studies.confirm import confirm
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_job import plan_training
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_runs import write_text
from primer_search.tests.support.tiny_weights import tiny_run
from primer_search.workers.data.dataset import Dataset


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on `text:text`, started in the folder `first`; the current folder is `second`, the text is gone."""
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    write_text(tmp_path / "text")
    monkeypatch.chdir(tmp_path / "first")
    shutil.copytree(tmp_path / "text", "text")
    path = tiny_run(Path()).resolve()
    shutil.rmtree("text")
    monkeypatch.chdir(tmp_path / "second")
    with Store.open(path) as store:
        assert store.manifest["config"]["data"]["source"] == "text:text"
        store.set_manifest({"budget_seconds": 60.0})
    return path


def same_dataset(run: Path) -> Dataset:
    with Store.open(run, read_only=True) as store:
        return prepare_same_dataset(RunConfig.from_dict(store.manifest["config"]), store.manifest, lambda line: None)


def test_a_run_goes_on_and_is_confirmed_from_another_folder(run: Path) -> None:
    options = SessionOptions(observe=lambda state: RunDirectory(run).request_stop())
    resume(run, budget_seconds=30.0, options=options)
    confirm(run, top=1, repeats=1)
    train_weights(plan_training(str(run), "1"))
    with Store.open(run, read_only=True) as store:
        kinds = {event.kind for event in store.events()}
    assert {"run_resumed", "confirmed"} <= kinds
    assert (run / "weights" / "1").is_dir()


def test_an_ablation_of_a_candidate_uses_the_text_of_its_run(run: Path) -> None:
    with Store.open(run, read_only=True) as store:
        recorded = pair_from_run(store, "2").run
        config = RunConfig.from_dict(store.manifest["config"])
    assert prepare_same_dataset(config, recorded, lambda line: None).dataset_hash == same_dataset(run).dataset_hash


def test_tokens_in_another_folder_of_the_cache_are_found_by_their_hash(run: Path) -> None:
    found = same_dataset(run)
    place = found.path.rename(found.path.with_name("another-name"))
    assert same_dataset(run).path == place
    (place / "test.bin").write_bytes(bytes((place / "test.bin").stat().st_size))  # damaged: it is not used
    with pytest.raises(UsageError, match="is not a file or folder"):
        same_dataset(run)


def test_a_text_that_is_neither_cached_nor_found_is_prepared_from_where_it_lies(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    refusal = refused("resume", run)
    assert "text:text is not a file or folder" in refusal
    assert "primer-search data prepare text:PATH --run RUN" in refusal
    result = command("data", "prepare", f"text:{tmp_path / 'text'}", "--run", run, "--json")
    assert result.code == 0, result.err
    assert same_dataset(run).dataset_hash == result.json["dataset_hash"]


def test_another_text_is_not_taken_for_that_of_a_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text" / "1.txt").write_text("other words " * 50)
    refusal = refused_after_progress("data", "prepare", f"text:{tmp_path / 'text'}", "--run", str(run))
    assert "is not the text that was trained on" in refusal
    for option in (("--config", "smoke"), ("--set", "model.vocabulary=300"), ("--vocabulary", "300")):
        assert "--run uses the settings of the run" in refused("data", "prepare", "text:text", "--run", run, *option)


def refused_after_progress(*arguments: str) -> str:
    result = command(*arguments)
    assert result.code == 2, result
    return result.err.splitlines()[-1]
