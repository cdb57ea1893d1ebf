"""The controller over a real store: repetition, interruption, faults, stops and deadlines, and death at any moment.

What is guaranteed: candidate ids and their proposals are recorded before they have consequences, so nothing evaluated
is lost and no id is used twice, whatever the clock. That an interrupted search makes the *same* candidates and losses
as one that was not holds where trials are exact, in steps and one after the other; elsewhere timing decides.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.search.config import RunConfig
from primer_search.search.evolution.best_candidate import BestCandidate
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.recovery.audit import audit
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.progress_snapshot import ProgressSnapshot
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.tests.support import tiny_runs
from primer_search.tests.support.tiny_runs import CONFIG, numbers, open_controller, stop_after, tiny_dataset
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Progress, Trainer, TrialRequest

CANDIDATES = 6
QUICK = replace(CONFIG, search=replace(CONFIG.search, proposals=3))


class SyntheticTrainer:
    """Losses drawn with the seed of the request; trials of a candidate in `deaths` fail that many times first."""

    def __init__(self, deaths: dict[int, int] | None = None, seconds: float = 0.0):
        self.deaths = Counter(deaths or {})
        self.seconds = seconds

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        progress(Progress("train", 1.0, 12.0, 5.0))
        time.sleep(self.seconds)
        if self.deaths[request.candidate_id] > 0:
            self.deaths[request.candidate_id] -= 1
            raise OSError("no such device")
        loss = float(np.random.default_rng(request.seed).uniform(3, 6))
        return Evaluation("ok", loss_nats=loss, bits_per_byte=loss / 2, hurdle_losses=(loss + 1, loss + 0.5), steps=12)


class InterruptingTrainer:
    """The real trainer, which Ctrl-C reaches in the middle of some trials, counted over its life."""

    def __init__(self, trainer: Trainer, interrupted: set[int]):
        self.trainer = trainer
        self.interrupted = interrupted
        self.trials = itertools.count()

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        fatal = next(self.trials) in self.interrupted

        def heard(seen: Progress) -> None:
            progress(seen)
            if fatal and seen.phase == "train" and seen.spent >= 1:
                raise KeyboardInterrupt

        return self.trainer.run(request, heard)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def story(store: Store) -> list[Any]:
    """What a run found, without times: its candidates, and all evaluations of each in order."""
    results: dict[int, list[Any]] = {}
    for trial in store.evaluations():
        results.setdefault(trial.candidate_id, []).append(numbers(trial.evaluation))
    return [(candidate, results.get(candidate.id)) for candidate in store.candidates()]


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """An undisturbed search in a separate process."""
    path = tmp_path_factory.mktemp("reference") / "run"
    subprocess.run(
        [sys.executable, tiny_runs.__file__, path, dataset, str(CANDIDATES)], check=True, capture_output=True
    )
    with Store.open(path, read_only=True) as store:
        return story(store)


def run_synthetic_search(
    run: RunDirectory, trainer: SyntheticTrainer, seconds: float = 60.0, candidates: int = 12, config: RunConfig = QUICK
):
    """Run a search on synthetic losses; return its ending and its store, open for reading."""
    executor = InlineExecutor(lambda: trainer)
    stop = stop_after(run, candidates)
    with open_controller(run, Path(), config, executor=executor, observe=stop) as (controller, _):
        ending = controller.run(seconds)
    OPENED.append(Store.open(run.path, read_only=True))
    return ending, OPENED[-1]


OPENED: list[Store] = []


@pytest.fixture(autouse=True)
def _close_stores() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_the_reference_found_what_a_search_should(reference: list[Any]) -> None:
    assert len(reference) >= CANDIDATES
    baseline_results = reference[0][1]
    assert len(baseline_results) == 2 and baseline_results[0]["loss_nats"] != baseline_results[1]["loss_nats"]
    outcomes = Counter(result["outcome"] for _, results in reference[1:] for result in results or [])
    assert outcomes["ok"] >= 1
    assert sum(outcomes.values()) == sum(candidate.same_as is None for candidate, _ in reference[1:])


def test_the_same_seed_gives_the_same_search_to_the_last_bit(
    reference: list[Any], dataset: Path, run: RunDirectory
) -> None:
    with open_controller(run, dataset, observe=stop_after(run, CANDIDATES)) as (controller, store):
        assert controller.run(600.0) == "stopped"
        assert story(store) == reference


def test_a_search_that_was_interrupted_makes_what_one_that_was_not_does(
    reference: list[Any], dataset: Path, run: RunDirectory
) -> None:
    make = CandidateTrainerFactory(CONFIG, str(dataset))
    interruptions = 0
    # In the baseline's first trial, its second, in that of a candidate; then to the end.
    for fatal in ({0}, {1}, {2}, set()):
        executor = InlineExecutor(lambda fatal=fatal: InterruptingTrainer(make(), fatal))
        with open_controller(run, dataset, executor=executor, observe=stop_after(run, CANDIDATES)) as (controller, _):
            try:
                controller.run(600.0)
            except KeyboardInterrupt:
                interruptions += 1
    assert interruptions == 3
    with Store.open(run.path, read_only=True) as store:
        assert story(store) == reference
        assert Counter(event.kind for event in store.events())["cancelled"] == 3


LONGEST_WAIT_SECONDS = 0.3
"""Longest time from a turn of the loop to the kill: a trial of the tiny search takes 0.15 s of CPU time."""


def kill_at_random_moments(arguments: list[Any], times: int = 4) -> int:
    """Start the search so many times, and kill it a random time after one of its first turns; how many were killed.

    Turns count, because the whole search takes little more than a second on a machine that does nothing else.
    """
    draw, killed = random.Random(time.time_ns()), 0
    for turns, seconds in [(draw.randint(1, 3), draw.uniform(0.0, LONGEST_WAIT_SECONDS)) for _ in range(times)]:
        print(f"killed {seconds:.3f} s after turn {turns}")
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None and process.stdout.readline(), "the search does not begin"
        for _ in range(turns - 1):
            process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        assert process.wait() in (0, -signal.SIGKILL)
        process.stdout.close()
    return killed


def test_a_controller_that_is_killed_at_random_moments_loses_nothing(
    reference: list[Any], dataset: Path, run: RunDirectory
) -> None:
    arguments = [sys.executable, tiny_runs.__file__, run.path, dataset, str(CANDIDATES)]
    assert kill_at_random_moments(arguments) >= 1
    subprocess.run(arguments, check=True, capture_output=True)
    with Store.open(run.path, read_only=True) as store:
        check_consistent(store)
        assert story(store) == reference


@pytest.mark.slow
def test_a_search_continues_equally_from_every_state_that_a_kill_can_leave(
    reference: list[Any], dataset: Path, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    execute = Store._execute

    def execute_and_copy(store: Store, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        rows = execute(store, statement, values)
        if statement == "COMMIT" and run.store.exists():
            copies.append(run.path.with_name(f"after-{len(copies)}"))
            shutil.copytree(run.path, copies[-1])
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_execute", execute_and_copy)
        tiny_runs.search(str(run.path), str(dataset), CANDIDATES)
    assert len(copies) > 2 * CANDIDATES
    for copy in copies:
        tiny_runs.search(str(copy), str(dataset), CANDIDATES)
        with Store.open(copy, read_only=True) as store:
            check_consistent(store)
            assert story(store) == reference, copy.name


def check_consistent(store: Store) -> None:
    assert audit(store) == []
    results = store.evaluations()
    assert store.unfinished_trials() == []
    trained = Counter(result.candidate_id for result in results)
    assert trained.pop(BASELINE_ID) == 2
    assert set(trained.values()) <= {1}, "a candidate was evaluated twice"
    ranked = [row for row in leaderboard(store).rows if row.rank is not None]
    assert [row.rank for row in ranked] == list(range(1, len(ranked) + 1))
    losses = [row.loss_nats for row in ranked if row.loss_nats is not None]
    assert losses == sorted(losses) and len(losses) == len(ranked)
    finished = {result.candidate_id for result in results if result.evaluation.outcome == "ok"}
    assert {row.id for row in ranked} | {BASELINE_ID} == finished | {BASELINE_ID}


@pytest.fixture(scope="module")
def bereaved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the baseline and candidate 2 lose their worker once, candidate 3 twice."""
    run = RunDirectory(tmp_path_factory.mktemp("bereaved") / "run")
    ending, store = run_synthetic_search(
        run, SyntheticTrainer({BASELINE_ID: 1, 2: 1, 3: 2}), candidates=5, config=CONFIG
    )
    store.close()
    assert ending == "stopped"
    return run.path


def test_a_lost_worker_is_forgiven_as_often_as_the_configuration_says(bereaved: Path) -> None:
    with Store.open(bereaved, read_only=True) as store:
        results = {trial.candidate_id: trial.evaluation for trial in store.evaluations()}
        lost = Counter(event.candidate_id for event in store.events() if event.kind == "worker_lost")
        check_consistent(store)
    assert lost == {BASELINE_ID: 1, 2: 1, 3: 1}
    assert results[2].outcome == "ok"
    assert results[3].outcome == "rejected:failed"
    assert results[3].message == (
        "none of its 2 trials gave a result, while those of other candidates did: "
        "its training raised OSError: no such device"
    )


def test_a_repeated_trial_has_the_baseline_it_had_and_the_baselines_trials_have_two(bereaved: Path) -> None:
    seeds: dict[int | None, list[int]] = {}
    with Store.open(bereaved, read_only=True) as store:
        for event in store.events():
            if event.kind == "started":
                seeds.setdefault(event.candidate_id, []).append(event.payload["seed"])
    assert len(seeds[BASELINE_ID]) == 3 and len(set(seeds[BASELINE_ID])) == 2
    assert len(seeds[2]) == 2 and len(set(seeds[2])) == 1
    first_of_each = [trials[0] for trials in seeds.values()]
    assert len(set(first_of_each)) == len(first_of_each)


def test_the_stop_file_ends_the_run_and_is_obeyed_once(run: RunDirectory) -> None:
    ending, store = run_synthetic_search(run, SyntheticTrainer(), candidates=4)
    with store:
        assert ending == "stopped"
        assert not run.stop_requested()
        last = store.events()[-1]
        assert (last.kind, last.payload) == ("run_stopped", {"why": "asked to stop"})
        before = len(store.candidates())
    ending, store = run_synthetic_search(run, SyntheticTrainer(), candidates=6)
    with store:
        assert ending == "stopped" and len(store.candidates()) > before
        check_consistent(store)


def test_the_deadline_ends_the_run(run: RunDirectory) -> None:
    begun = time.monotonic()
    ending, store = run_synthetic_search(run, SyntheticTrainer(seconds=0.2), seconds=1.5, candidates=10_000)
    with store:
        assert ending == "ended"
        assert 1.5 <= time.monotonic() - begun < 60.0, "on a busy machine, too"
        assert store.events()[-1].kind == "run_ended"
        assert store.unfinished_trials() == []


def test_the_deadline_ends_a_run_that_finds_nothing_new(run: RunDirectory) -> None:
    # No child may have more parameters than the baseline, nor as many: each proposal is the baseline again.
    config = replace(QUICK, search=replace(QUICK.search, proposals=2))
    begun = time.monotonic()
    executor = InlineExecutor(SyntheticTrainer)
    with open_controller(run, Path(), config, executor=executor) as (controller, store):
        controller.evolution.rules = replace(controller.evolution.rules, max_parameters=0)
        assert controller.run(1.0) == "ended"
        assert time.monotonic() - begun < 60.0, "on a busy machine, too"
        assert {candidate.same_as for candidate in store.candidates()} == {None, BASELINE_ID}
        assert {trial.candidate_id for trial in store.evaluations()} == {BASELINE_ID}


def test_state_says_what_happened(run: RunDirectory) -> None:
    states: list[ProgressSnapshot] = []
    stop = stop_after(run, 8)

    def observe(state: ProgressSnapshot) -> None:
        states.append(state)
        stop(state)

    executor = InlineExecutor(SyntheticTrainer)
    with open_controller(run, Path(), QUICK, executor=executor, observe=observe) as (controller, store):
        controller.run(60.0)
        results = [trial for trial in store.evaluations() if trial.candidate_id != BASELINE_ID]
        candidates = len(store.candidates())
    last = states[-1]
    best = min(results, key=lambda trial: trial.evaluation.loss_nats or np.inf)
    loss = best.evaluation.loss_nats
    assert loss is not None
    assert last.best == BestCandidate(best.candidate_id, loss, best.evaluation.bits_per_byte, loss)
    assert sum(last.outcomes.values()) == len(results) + 2
    assert len(last.baseline_losses) == 2
    assert last.candidates == candidates
    assert last.last is not None and last.last[0] == results[-1].candidate_id
    # A resumed controller knows the same before it does anything.
    with open_controller(run, Path(), QUICK, executor=InlineExecutor(SyntheticTrainer)) as (controller, _):
        again = controller.state()
    assert (again.best, again.outcomes, again.baseline_losses, again.candidates) == (
        last.best,
        last.outcomes,
        last.baseline_losses,
        last.candidates,
    )
