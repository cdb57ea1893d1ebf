"""Executors with trainers that hang, exceed memory, raise, die and leak, in real processes that are really killed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from primer_search.primitives.errors import UsageError, WorkFailedError
from primer_search.system import host
from primer_search.system.allocator import allocator_environment
from primer_search.tests.support import faulty_trainers
from primer_search.tests.support.faulty_trainers import FaultyTrainer
from primer_search.tests.workers.executors.test_drivers import start_driver, workers_under
from primer_search.workers.config import WorkersConfig
from primer_search.workers.executors.factory import make_executor
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Executor, MakeTrainer, TrialRequest

pytestmark = pytest.mark.usefixtures("one_ray_at_a_time")

WALL_LIMIT_SECONDS = 3.0
MEMORY_LIMIT_BYTES = 2**29


def request(dna: str, trial: int = 0, seed: int = 7) -> TrialRequest:
    return TrialRequest(trial_id=trial, candidate_id=100 + trial, dna=dna, seed=seed)


def until(condition: Callable[[], object], executor: Executor | None = None, seconds: float = 30.0) -> None:
    """Wait for a condition; the executor works meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        if executor is None:
            time.sleep(0.05)
        else:
            assert executor.wait(0.1) == []


def run_all(executor: Executor, requests: list[TrialRequest]) -> dict[int, Evaluation]:
    """Run these trials, one per worker at a time, and return the evaluations by trial."""
    waiting, ended = list(requests), {}
    deadline = time.monotonic() + 60
    while len(ended) < len(requests):
        assert time.monotonic() < deadline, f"only {ended} of {requests} ended"
        while waiting and executor.free:
            executor.submit(waiting.pop(0))
        ended |= {trial.trial_id: evaluation for trial, evaluation in executor.wait(1.0)}
    return ended


def run_one(executor: Executor, dna: str) -> Evaluation:
    return run_all(executor, [request(dna)])[0]


def worker_pids(executor: Executor) -> set[int]:
    """Return the process numbers of both workers."""
    ended = run_all(executor, [request("sleep 0.3", trial) for trial in range(2)])
    return {int(evaluation.message) for evaluation in ended.values()}


def make_ray_executor(make_trainer: MakeTrainer = FaultyTrainer, **options: Any) -> Executor:
    from primer_search.workers.executors.ray_cluster import cloudpickle
    from primer_search.workers.executors.ray_pool import RayExecutor

    # Workers cannot import modules of the tests.
    cloudpickle.register_pickle_by_value(faulty_trainers)
    limits: dict[str, Any] = {
        "wall_limit_seconds": WALL_LIMIT_SECONDS,
        "memory_limit_bytes": MEMORY_LIMIT_BYTES,
        "slots": 2,
    }
    return RayExecutor(make_trainer, **limits | options)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for the executors of this module that do not start their own."""
    from primer_search.workers.devices.ray_environment import keep_sigterm_handler
    from primer_search.workers.executors.ray_cluster import ray

    with keep_sigterm_handler():
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def shared(cluster: None) -> Iterator[Executor]:
    with make_ray_executor() as executor:
        yield executor


@pytest.fixture
def executor(shared: Executor) -> Executor:
    """The shared executor with both workers up and nothing in flight."""
    shared.cancel()
    until(lambda: shared.free == 2, shared)
    return shared


# Without a worker process


def test_the_protocol_imports_neither_ray_nor_jax():
    check = "import sys, primer_search.workers.protocol; print({'ray', 'jax'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_configuration_picks_the_executor():
    made = make_executor(WorkersConfig(executor="inline"), FaultyTrainer, wall_limit_seconds=1.0)
    assert isinstance(made, InlineExecutor)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:10001", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_refused_at_once(address):
    began = time.monotonic()
    with pytest.raises(UsageError, match="--address"), make_ray_executor(address=address):
        pass
    assert time.monotonic() - began < 10


# On the shared cluster


def test_a_worker_stays_warm_from_trial_to_trial(executor):
    ended = run_all(executor, [request("succeed", trial, seed=trial) for trial in range(6)])
    assert [ended[trial].loss_nats for trial in range(6)] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert len({evaluation.message for evaluation in ended.values()}) <= 2
    assert max(evaluation.steps for evaluation in ended.values()) >= 3


def test_workers_own_their_cores_and_see_only_the_cpu(cluster, tmp_path):
    if not host.CAN_PIN:
        pytest.skip("this system cannot tie a process to cores")
    with make_ray_executor(wall_limit_seconds=60.0, memory_limit_bytes=0) as executor:  # importing JAX takes some time
        until(lambda: executor.free == 2, executor)
        ended = run_all(executor, [request(f"report_process {tmp_path / str(trial)}", trial) for trial in range(2)])
    assert [ended[trial].outcome for trial in range(2)] == ["ok", "ok"]
    cores, threads, platforms = zip(*((tmp_path / name).read_text().split("|") for name in ("0", "1")), strict=True)
    share = max(1, len(host.usable_cores()) // 2)
    if len(host.usable_cores()) >= 2:
        assert cores[0] != cores[1]
    assert [len(text.split(",")) for text in cores] == [share, share]
    assert threads == (str(max(1, host.usable_core_count() // 2)),) * 2
    assert platforms == ("['cpu']",) * 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not show environments in /proc")
def test_workers_start_with_the_variables_that_keep_their_freed_memory(executor):
    wanted = allocator_environment(max(1, host.usable_core_count() // 2))
    for pid in worker_pids(executor):
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")  # as the C library read them
        assert {f"{name}={value}" for name, value in wanted.items()} <= set(variables)


@pytest.mark.parametrize("action", ["sleep", "spin"])
def test_a_hanging_trial_is_killed_soon_after_its_limit_and_others_continue(executor, action):
    began = time.monotonic()
    ended = run_all(executor, [request(action, 0), *(request("succeed", trial) for trial in (1, 2, 3))])
    assert time.monotonic() - began < WALL_LIMIT_SECONDS + 3
    assert [(trial, evaluation.outcome) for trial, evaluation in ended.items()] == [
        *((trial, "ok") for trial in (1, 2, 3)),
        (0, "timeout"),
    ]
    assert ended[0].wall_seconds == pytest.approx(WALL_LIMIT_SECONDS, abs=1.0)


def test_a_trial_over_its_memory_limit_is_killed_while_the_controller_is_busy(executor):
    executor.submit(request("fill_memory"))
    time.sleep(2.5)
    [(_, evaluation)] = executor.wait(1.0)
    assert evaluation.outcome == "out_of_memory"
    assert MEMORY_LIMIT_BYTES < (evaluation.peak_memory_bytes or 0) < 2 * MEMORY_LIMIT_BYTES


def test_a_trial_that_never_returns_from_compilation_is_killed_long_before_its_wall_limit(cluster):
    with make_ray_executor(
        faulty_trainers.CompilingTrainer, slots=1, wall_limit_seconds=600.0, preparation_seconds=2.0
    ) as executor:
        until(lambda: executor.free == 1, executor)
        evaluation = run_one(executor, "")
    assert evaluation.outcome == "timeout"
    assert "over the limit of 2 s for compilation; it was killed" in evaluation.message


def test_processes_that_a_trial_leaves_are_ended_and_its_worker_goes_on(executor, tmp_path):
    before = worker_pids(executor)
    assert run_one(executor, f"fork {tmp_path / 'left'}").outcome == "ok"
    left = [int(number) for number in (tmp_path / "left").read_text().split()]
    assert len(left) == 2 and not any(psutil.pid_exists(number) for number in left)
    assert worker_pids(executor) == before


def test_memory_of_processes_that_a_trial_forks_counts(executor):
    evaluation = run_one(executor, "fork_and_fill_memory")
    assert evaluation.outcome == "out_of_memory"


def test_a_killed_process_is_gone_and_its_worker_replaced(executor):
    before = worker_pids(executor)
    assert run_one(executor, "sleep").outcome == "timeout"
    until(lambda: sum(psutil.pid_exists(pid) for pid in before) == 1, seconds=5)
    until(lambda: executor.free == 2, executor)
    after = worker_pids(executor)
    assert (len(before), len(after), len(before & after)) == (2, 2, 1)


def test_a_worker_that_dies_is_lost_and_replaced(executor):
    evaluation = run_one(executor, "die")
    assert evaluation.outcome == "worker_lost"
    until(lambda: executor.free == 2, executor)


def test_an_exception_on_a_worker_is_logged_and_its_worker_replaced(executor, caplog):
    evaluation = run_one(executor, "fail division by a hamster")
    assert evaluation.outcome == "failed"
    assert "ValueError: division by a hamster" in evaluation.message
    assert "faulty_trainers" in caplog.text
    assert run_one(executor, "exhaust").outcome == "out_of_memory"


def test_a_worker_that_leaks_memory_is_replaced_before_the_next_trial(executor):
    evaluations = [run_one(executor, "leak 250") for _ in range(3)]
    assert [evaluation.outcome for evaluation in evaluations] == ["ok"] * 3
    assert len({evaluation.message for evaluation in evaluations}) == 3


def test_status_reports_each_worker_without_waiting(executor):
    executor.submit(request("spin", trial=4))
    executor.submit(request("sleep", trial=5))
    until(lambda: any(status.loss_nats == 4.25 for status in executor.status()), executor)
    seconds, statuses = [], []
    for _ in range(5):  # the machine may be busy for one of them
        began = time.monotonic()
        statuses = executor.status()
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.05
    assert sorted((status.trial_id, status.candidate_id) for status in statuses) == [(4, 104), (5, 105)]
    asleep = next(status for status in statuses if status.trial_id == 5)
    assert (asleep.phase, asleep.spent, asleep.budget) == ("train", 1.5, 30.0)
    assert 0 < asleep.wall_seconds < WALL_LIMIT_SECONDS
    executor.cancel()
    assert [status.phase for status in executor.status()] == ["absent", "absent"]


def test_cancelling_kills_at_once_and_returns_the_trials(executor):
    pids = worker_pids(executor)
    executor.submit(request("sleep", trial=8))
    executor.submit(request("spin", trial=9))
    began = time.monotonic()
    assert sorted(trial.trial_id for trial in executor.cancel()) == [8, 9]
    assert time.monotonic() - began < 0.5
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), seconds=3)
    assert executor.cancel() == []


def test_a_worker_out_of_reach_of_signals_is_killed_through_ray(cluster, monkeypatch):
    """The executor takes every worker for one on another machine, because its own identity is patched."""
    monkeypatch.setattr("primer_search.workers.executors.worker_launcher.machine_identity", lambda: "elsewhere")
    with make_ray_executor(slots=1) as executor:
        ended = run_all(
            executor, [request(action, trial) for trial, action in enumerate(["fill_memory", "spin", "succeed"])]
        )
        assert [ended[trial].outcome for trial in range(3)] == ["out_of_memory", "timeout", "ok"]
        pid = int(ended[2].message)
    until(lambda: not psutil.pid_exists(pid), seconds=5)


@pytest.mark.parametrize(
    ("maker", "error", "text"),
    [
        (
            faulty_trainers.fail_to_make,
            WorkFailedError,
            "OSError: the disk is on fire",
        ),
        (faulty_trainers.die_while_making, WorkFailedError, "ActorDiedError"),
        (faulty_trainers.hang_while_making, WorkFailedError, "TimeoutError"),
        (faulty_trainers.miss_the_data, UsageError, "data.source = 'text:nowhere'"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_search_with_one_sentence(cluster, maker, error, text):
    start_seconds = 1.0 if maker is faulty_trainers.hang_while_making else 60.0
    with make_ray_executor(maker, slots=1, start_seconds=start_seconds) as executor:
        with pytest.raises(error) as raised:
            until(lambda: executor.free, executor)
        assert text in str(raised.value)
        assert "\n" not in str(raised.value)


def test_the_search_continues_with_one_worker_while_the_other_is_tried_again_later(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr("primer_search.workers.executors.ray_pool._RESTART_SECONDS", 1.0)
    taken = tmp_path / "taken"
    maker = partial(faulty_trainers.make_one_on_a_machine_that_breaks, str(taken))
    with make_ray_executor(maker) as executor:
        slots: Any = getattr(executor, "_slots")  # noqa: B009 - not part of the protocol
        until(lambda: executor.free and any(slot.restart_after for slot in slots), executor)
        assert run_all(executor, [request("succeed")])[0].outcome == "ok"
        taken.unlink()
        until(lambda: executor.free == 2, executor)


def test_a_worker_that_dies_again_and_again_pauses_while_the_other_goes_on(cluster, monkeypatch):
    monkeypatch.setattr("primer_search.workers.executors.ray_pool._RESTART_SECONDS", 2.0)
    with make_ray_executor() as executor:
        slots: Any = getattr(executor, "_slots")  # noqa: B009 - not part of the protocol
        for _ in range(3):
            until(lambda: executor.free == 2, executor)
            assert run_one(executor, "die").outcome == "worker_lost"
        assert [slot.restart_after > 0.0 for slot in slots] == [True, False]
        assert run_one(executor, "succeed").outcome == "ok"
        until(lambda: executor.free == 2, executor)


@pytest.mark.parametrize("killed", [False, True])
def test_a_search_on_a_running_cluster_ends_only_its_own_workers(executor, killed):
    from primer_search.workers.executors.ray_cluster import ray

    others = worker_pids(executor)
    with start_driver("sleep 1", "sleep 1", address=ray.get_runtime_context().gcs_address) as driver:
        assert len(workers_under(os.getpid())) == 4
        if killed:
            driver.kill()
        else:
            assert driver.communicate(timeout=30) == ("ok ok\n", "")
    until(lambda: {worker.pid for worker in workers_under(os.getpid())} == others, seconds=20)
    assert worker_pids(executor) == others
