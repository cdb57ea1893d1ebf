"""Searches on a Ray cluster of several nodes on this machine, of which one node and one worker are killed.

The driver and the nodes share neither the package nor data, as far as possible on one machine. The path of the driver's
data cache means another folder in every other process, and workers run the wheel that the driver built.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.records import FinishedTrial
from primer_search.search.runs.store import Store
from primer_search.tests.support import faulty_trainers
from primer_search.tests.support.faulty_trainers import FaultyTrainer
from primer_search.tests.support.tiny_runs import tiny_dataset, write_text
from primer_search.workers.devices.discovery import cluster_devices
from primer_search.workers.devices.ray_environment import silence_ray
from primer_search.workers.protocol import Executor, TrialRequest

BUDGET_SECONDS = 100


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="separates the files of driver and workers by /proc"),
    pytest.mark.usefixtures("one_ray_at_a_time"),
]


@pytest.fixture
def nodes_folder() -> Iterator[Path]:
    """A folder with a short path: Ray puts sockets under it, whose paths may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="nodes", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def cluster(nodes_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a core for workers, and two nodes of one core each with their own data cache."""
    silence_ray()
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(nodes_folder / "cache"))
    monkeypatch.setenv("TMPDIR", str(nodes_folder))
    monkeypatch.chdir(nodes_folder)
    # Ray takes about ten seconds to notice a lost node; these settings make it faster.
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def start_search(cluster: Any, folder: Path, budget_seconds: int) -> subprocess.Popen[str]:
    """Start `primer-search` in another process, on the cluster."""
    (folder / "driver").mkdir()
    text = write_text(folder / "text")
    command = [sys.executable, "-m", "primer_search", "--config", "smoke", "--address", cluster.address]
    command += ["--budget", f"{budget_seconds}s", "--data", f"text:{text}", "--run-dir", str(folder / "run"), "--json"]
    command += ["--set", "workers.executor=ray", "--workers", "2"]
    environment = {**os.environ, "PRIMER_SEARCH_CACHE": "/proc/self/cwd/cache"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder / "driver")


def finished(folder: Path) -> list[FinishedTrial]:
    """Return the finished trials in the store."""
    if not (folder / "run" / "run.sqlite").exists():
        return []
    with Store.open(folder / "run", read_only=True) as store:
        return store.evaluations()


def wait_for(condition: Callable[[], object], search: subprocess.Popen[str]) -> None:
    while not condition():
        assert search.poll() is None, search.communicate()
        time.sleep(0.2)


def workers_of(node: Any) -> list[psutil.Process]:
    """Return the workers that a node's daemon has started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [child for child in raylet.children(recursive=True) if child.name() == "ray::Worker"]


def run_all(executor: Executor, requests: list[TrialRequest]) -> dict[int, str]:
    """Run these trials, one per worker, and return the outcomes by trial."""
    while executor.free < len(requests):
        executor.wait(1.0)
    for request in requests:
        executor.submit(request)
    return outcomes_of(executor, len(requests))


def outcomes_of(executor: Executor, count: int) -> dict[int, str]:
    ended: dict[int, str] = {}
    deadline = time.monotonic() + 60
    while len(ended) < count:
        assert time.monotonic() < deadline
        ended |= {request.trial_id: evaluation.outcome for request, evaluation in executor.wait(1.0)}
    return ended


def test_trials_on_other_nodes_continue_when_one_is_killed(cluster: Any, nodes_folder: Path, tmp_path: Path) -> None:
    from primer_search.workers.executors.ray_cluster import cloudpickle
    from primer_search.workers.executors.ray_pool import RayExecutor

    cloudpickle.register_pickle_by_value(faulty_trainers)
    dataset = tiny_dataset(tmp_path)
    # In other processes, this descriptor number means another folder or none.
    handle = os.open(dataset.parent, os.O_RDONLY)
    options: dict[str, Any] = {"wall_limit_seconds": 60.0, "dataset": f"/proc/self/fd/{handle}/{dataset.name}"}
    try:
        with RayExecutor(FaultyTrainer, address=cluster.address, **options) as executor:
            assert executor.slots == 2, "one worker a core"
            outcomes = run_all(executor, [TrialRequest(trial, trial, "succeed", 0) for trial in range(2)])
            assert outcomes == {0: "ok", 1: "ok"}
            for trial in (2, 3):
                executor.submit(TrialRequest(trial, trial, "sleep 6", 0))
            cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
            assert sorted(outcomes_of(executor, 2).values()) == ["ok", "worker_lost"]
            for trial, action in ((4, "die"), (5, "succeed")):
                while not executor.free:
                    executor.wait(1.0)
                executor.submit(TrialRequest(trial, trial, action, 0))
                assert outcomes_of(executor, 1) == {trial: "worker_lost" if action == "die" else "ok"}
    finally:
        os.close(handle)
    assert_package_and_text_arrived_once(nodes_folder)


def assert_package_and_text_arrived_once(nodes_folder: Path) -> None:
    """The nodes, which are one machine, lacked the package and the text, and now have one copy of each."""
    [unpacked] = nodes_folder.glob("primer-search-*")
    [package] = unpacked.iterdir()
    assert (package / "primer_search" / "workers" / "protocol.py").is_file()
    [dataset] = (nodes_folder / "cache" / "data").iterdir()
    assert (dataset / "train.bin").is_file()


@pytest.mark.slow
def test_a_search_survives_the_loss_of_a_node_and_a_worker_and_ends_on_time(
    cluster: Any, nodes_folder: Path, tmp_path: Path
) -> None:
    assert cluster_devices(cluster.address).per_host == (1, 1)
    begun = time.monotonic()
    search = start_search(cluster, tmp_path, BUDGET_SECONDS)
    wait_for(lambda: len(finished(tmp_path)) >= 2, search)
    lost, kept = cluster.list_all_nodes()[1:]
    before_the_node = finished(tmp_path)
    cluster.remove_node(lost, allow_graceful=False)
    wait_for(lambda: len(finished(tmp_path)) >= len(before_the_node) + 2, search)
    before_the_worker = finished(tmp_path)
    [worker] = workers_of(kept)
    worker.kill()
    wait_for(lambda: len(finished(tmp_path)) > len(before_the_worker), search)
    out, err = search.communicate(timeout=BUDGET_SECONDS + 60)
    took = time.monotonic() - begun
    assert search.returncode == 0, err
    assert took < BUDGET_SECONDS + 15, "the search must end on time"

    after = finished(tmp_path)
    outcomes = {trial.trial_id: trial.evaluation.outcome for trial in after}
    for trial in before_the_worker:
        assert outcomes[trial.trial_id] == trial.evaluation.outcome
    with Store.open(tmp_path / "run", read_only=True) as store:
        assert store.unfinished_trials() == []
        totals = leaderboard(store).totals
    # Only the trials on the lost node and the killed worker are repeated.
    assert totals.lost <= 2
    assert totals.trials == len(after)
    assert "worker_lost" not in outcomes.values()
    assert json.loads(out)["run"]
    assert_package_and_text_arrived_once(nodes_folder)
