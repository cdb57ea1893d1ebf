"""Trackers log a run completely, once, and never fail or hold up the search that they follow."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from primer_search.primitives.errors import UsageError, WorkFailedError
from primer_search.search.runs.store import Store
from primer_search.search.tracking.follow_run import follow_run
from primer_search.search.tracking.tracker_names import check_trackers
from primer_search.search.tracking.tracker_process import TrackerProcesses, run_trackers
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.written_runs import Run, full
from primer_search.workers.protocol import Evaluation

CURVE = ((1.0, 10, 5.5), (2.0, 20, 5.0))
STOPPED = Evaluation("stopped_at_hurdle", "too high", hurdle_losses=(5.25,), hurdle_steps=(10,), steps=10, curve=CURVE)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run of three trainings: the baseline, a better candidate, and one that was stopped."""
    (tmp_path / "searched").mkdir()
    run = Run(tmp_path / "searched", 1, config={"model": {"layers": 2, "unit": 8}, "search": {}}, seed=3)
    run.propose(0, None)
    run.propose(1, 0, "Insert in main: x2 = ABS(h0)")
    run.propose(2, 1, "Delete in main: x2 = ABS(h0)")
    run.train(0, full(4.0))
    run.train(1, full(3.5, curve=CURVE))  # pyright: ignore[reportArgumentType]
    run.train(2, STOPPED)
    yield run
    run.store.close()


def log(run: Run, name: str) -> int:
    """Log what is in the run now; the number of trials."""
    return follow_run(run.store.run.path, name, lambda seconds: False).trials


def test_tensorboard_gets_each_trial_once_and_the_best_over_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))  # read without TensorFlow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(*place: str) -> EventAccumulator:
        folder = run.store.run.path.joinpath("tracking", "tensorboard", *place)
        return EventAccumulator(str(folder)).Reload()

    assert log(run, "tensorboard") == 3
    assert log(run, "tensorboard") == 0
    run.train(2, full(3.0))
    assert log(run, "tensorboard") == 1
    best = [(event.step, event.value) for event in read("search").Scalars("search/best_loss_nats")]
    assert best == [(2, 3.5), (3, 3.5), (4, 3.0)]
    assert [event.value for event in read("search").Scalars("search/baseline_loss_nats")] == [4.0] * 4
    assert {"settings/text_summary", "leaderboard/text_summary", "best_dna/text_summary"} <= {
        *read("search").Tags()["tensors"]
    }
    curve = read("candidate-1", "trial-1").Scalars("training_loss_nats")
    assert [(event.step, event.value) for event in curve] == [(10, 5.5), (20, 5.0)]
    assert [event.step for event in read("candidate-2", "trial-2").Scalars("validation_loss_nats")] == [10]


@pytest.mark.filterwarnings("ignore")  # of MLflow's use of SQLAlchemy
def test_mlflow_nests_the_trials_in_the_run_of_the_search(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # artifacts go to the current folder
    assert log(run, "mlflow") == 3
    run.train(2, full(3.0))
    assert log(run, "mlflow") == 1
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("primer-search")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (search,) = [each for each in runs if each.info.run_name == "searched"]
    trials = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == search.info.run_id]
    assert len(trials) == 4 == len(runs) - 1
    assert search.data.params["config.model.layers"] == "2"
    assert search.data.metrics["best_minus_baseline_nats"] == -1.0
    assert {file.path for file in client.list_artifacts(search.info.run_id)} == {
        *("report.html", "leaderboard.json", "best_dna.json")
    }
    trial = next(each for each in trials if each.data.params["candidate"] == "1")
    assert (trial.info.status, trial.data.params["outcome"]) == ("FINISHED", "ok")
    history = client.get_metric_history(trial.info.run_id, "training_loss_nats")
    assert [(point.step, point.value) for point in history] == [(10, 5.5), (20, 5.0)]


def test_wandb_writes_a_run_for_each_trial_without_a_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert log(run, "wandb") == 3
    files = [*run.store.run.path.glob("tracking/wandb/offline-run-*/run-*.wandb")]
    assert len(files) == 4
    contents = [file.read_bytes() for file in files]
    assert sum(b"training_loss_nats" in content for content in contents) == 2
    assert sum(b"best_loss_nats" in content for content in contents) == 1
    assert sum(b"Insert in main: x2 = ABS(h0)" in content for content in contents) == 1
    assert sum(b"report.html" in content for content in contents) == 1


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_tracker_that_raises_or_hangs_is_reported_once_and_ended(
    run: Run, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://store")
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    said: list[str] = []
    observed: list[object] = []
    started = time.monotonic()
    processes = TrackerProcesses(("mlflow", "wandb"), run.store, said.append)
    assert time.monotonic() - started < 2.0, "the search waits for nothing"
    observe = processes.check_before(observed.append)
    until = time.monotonic() + 90.0
    while not said and time.monotonic() < until:
        observe(None)  # pyright: ignore[reportArgumentType]
        time.sleep(0.05)
    assert observed, "the search is observed as before"
    assert len(said) == 1
    assert said[0].startswith("tracking with mlflow stopped: mlflow failed with ")
    assert "the search is not affected" in said[0]
    pid = processes.pids["wandb"]
    processes.close(2.0)
    assert "tracking with wandb stopped: it did not finish within 2 s" in said[1]
    assert len(said) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    notes = [event.payload["why"] for event in run.store.events() if event.kind == "note"]
    assert [note.partition(":")[0] for note in notes] == [
        "tracking with mlflow stopped",
        "tracking with wandb stopped",
    ]


def test_a_tracker_that_fails_leaves_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://store")
    with pytest.raises(WorkFailedError, match=r"^mlflow failed with .*nowhere"):
        log(run, "mlflow")
    result = command("track", run.store.run.path, "--to", "mlflow")
    assert (result.code, result.err.count("\n")) == (1, 1)


def test_a_tracker_in_a_separate_process_finishes_when_the_search_ends(run: Run) -> None:
    said: list[str] = []
    processes = TrackerProcesses(("tensorboard",), run.store, said.append)
    run.train(1, full(3.25))
    processes.close(90.0)
    assert said == [f"tracked with tensorboard: tensorboard --logdir {run.store.run.path}/tracking/tensorboard"]
    with Store.open(run.store.run.path, read_only=True) as store:
        trials = len(store.evaluations())
    assert len([*run.store.run.path.glob("tracking/tensorboard/candidate-*/trial-*")]) == trials == 4


def test_after_an_interruption_the_end_is_left_to_a_later_session(run: Run) -> None:
    said: list[str] = []
    processes = TrackerProcesses(("tensorboard",), run.store, said.append)
    processes.close(90.0, interrupted=True)
    assert len([*run.store.run.path.glob("tracking/tensorboard/candidate-*/trial-*")]) == 3
    texts = b"".join(file.read_bytes() for file in run.store.run.path.glob("tracking/tensorboard/search/*"))
    assert b"settings" in texts and b"leaderboard" not in texts
    run.store.add_event("run_stopped")
    assert log(run, "tensorboard") == 0
    texts = b"".join(file.read_bytes() for file in run.store.run.path.glob("tracking/tensorboard/search/*"))
    assert b"leaderboard" in texts


def test_a_second_interruption_ends_the_trackers_at_once(
    run: Run, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    said: list[str] = []
    pid = 0
    # A shell starts processes in the background with SIGINT ignored, and this one may be such a process.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # if JAX is loaded, its callback of the garbage collector drops a KeyboardInterrupt
    try:
        with pytest.raises(KeyboardInterrupt), run_trackers(("wandb",), run.store, said.append) as processes:
            pid = processes.pids["wandb"]
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            raise KeyboardInterrupt
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, former)
    assert said == [], "it was not waited for"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_and_missing_trackers_are_refused_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--config", "smoke", "--run-dir", tmp_path / "run", "--track")
    assert "unknown tracker 'neptune': choose from tensorboard, wandb, mlflow" in refused(*arguments, "neptune")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    assert "tracking with wandb needs a package that is missing: pip install wandb" in refused(*arguments, "wandb")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="pip install wandb"):
        check_trackers(["wandb"])
    assert check_trackers(["tensorboard", "tensorboard"]) == ("tensorboard",)
