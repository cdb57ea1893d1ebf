"""Whole searches: on real Ray workers, of which no process is left, and on text in the ids of an own tokenizer."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from primer_search.configs.load import load
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.progress_snapshot import ProgressSnapshot
from primer_search.search.runs.run_directory import create_run_directory
from primer_search.search.runs.store import Store
from primer_search.search.sessions import session
from primer_search.search.sessions.session import SessionOptions
from primer_search.tests.support.command import command
from primer_search.tests.support.tiny_runs import own_tokenizer, stop_after, write_text


@pytest.mark.slow
def test_a_search_on_two_workers_uses_both_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    smoke = load("smoke")
    config = replace(
        smoke,
        data=replace(smoke.data, source=f"text:{write_text(tmp_path / 'text')}"),
        workers=replace(smoke.workers, executor="ray", count=2),
    )
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    at_work: set[tuple[int, int]] = set()

    def observe(state: ProgressSnapshot) -> None:
        at_work.update(
            (worker.worker, worker.candidate_id) for worker in state.workers if worker.candidate_id is not None
        )

    begun = time.monotonic()
    run = create_run_directory(tmp_path / "run")
    ended = session.start(config, run, seed=0, budget_seconds=40.0, options=SessionOptions(observe=observe))
    assert ended.ending == "ended"
    assert 40.0 <= time.monotonic() - begun < 55.0

    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.pid not in before and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert left == []
    assert os.environ.get("JAX_PLATFORMS") == "cpu"
    with Store.open(run.path, read_only=True) as store:
        finished = store.evaluations()
        board = leaderboard(store)
        assert store.unfinished_trials() == []
        assert [candidate.id for candidate in store.candidates()] == list(range(len(store.candidates())))
    assert {worker for worker, _ in at_work} == {0, 1}
    assert {trial.candidate_id for trial in finished} > {BASELINE_ID}
    assert all(trial.evaluation.kind not in ("timeout", "worker_lost", "out_of_memory") for trial in finished)
    assert board.baseline.trials >= 2, "later ones are controls"
    assert board.totals.trials == len(finished)
    assert board.totals.lost == 0


def test_a_search_on_text_in_the_ids_of_an_own_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path / "cache"))
    text = write_text(tmp_path / "text")
    tokenizer = own_tokenizer(tmp_path / "tokenizer.json", text)
    settings = [
        f'data.tokenizer="hf-tokenizer:{tokenizer}"',
        *("search.baseline_trials=1", "search.confirm_top=0", "trial.hurdles=0", "trial.budget_steps=5"),
    ]
    smoke = load("smoke", settings)
    config = replace(smoke, data=replace(smoke.data, source=f"text:{text}"))
    run = create_run_directory(tmp_path / "run")
    options = SessionOptions(observe=stop_after(run, 3))
    session.start(config, run, seed=0, budget_seconds=600.0, options=options)
    with Store.open(run.path, read_only=True) as store:
        baseline = next(trial.evaluation for trial in store.evaluations() if trial.candidate_id == BASELINE_ID)
        assert store.manifest["config"]["data"]["tokenizer"] == f"hf-tokenizer:{tokenizer}"
    assert baseline.loss_nats is not None and baseline.bits_per_byte is not None
    assert 0.1 < baseline.loss_nats / baseline.bits_per_byte < 10.0
    assert "baseline" in command("leaderboard", run.path).out
    written = command("generate", run.path, "baseline", "--prompt", "the cat", "--tokens", "4")
    assert written.code == 0, written.err
    assert written.out.startswith("the cat")
    tokenizer.write_text(tokenizer.read_text().replace("<|endoftext|>", "<|end|>"))
    resumed = command("resume", run.path, "--budget", "1s")
    assert resumed.code == 0, resumed.err  # the tokens of the search are in the cache
