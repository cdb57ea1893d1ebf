"""Searches with Ray in separate processes: what is left after they end, are killed, or lose their cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

pytestmark = pytest.mark.usefixtures("one_ray_at_a_time")

DRIVER = """
import sys
from primer_search.tests.support import faulty_trainers
from primer_search.tests.support.faulty_trainers import FaultyTrainer
from primer_search.workers.config import WorkersConfig
from primer_search.workers.protocol import TrialRequest
from primer_search.workers.executors.factory import make_executor
from primer_search.workers.executors.ray_cluster import cloudpickle
cloudpickle.register_pickle_by_value(faulty_trainers)
address, *actions = sys.argv[1:]
workers = WorkersConfig(executor="ray", count=2, memory_gib=1.0)
with make_executor(workers, FaultyTrainer, wall_limit_seconds=3.0, address=address or None) as executor:
    while executor.free < 2:
        executor.wait(1.0)
    for trial, action in enumerate(actions):
        executor.submit(TrialRequest(trial, trial, action, 0))
    print("training", flush=True)
    results = []
    while len(results) < 2:
        results += executor.wait(1.0)
    print(*sorted(evaluation.outcome for _, evaluation in results), flush=True)
"""


def start_driver(*actions: str, address: str = "") -> subprocess.Popen[str]:
    """Start a process that runs these two trials, and return when they are running."""
    environment = dict(os.environ)
    command = [sys.executable, "-c", DRIVER, address, *actions]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "training\n"
    return driver


def workers_under(pid: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a process may end while it is looked at
            if child.name() == "ray::Worker":
                found.append(child)
    return found


def test_a_closed_executor_leaves_no_process_and_a_silent_console():
    driver = start_driver("succeed", "die")
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(workers_under(driver.pid)) >= 1
    assert (*driver.communicate(timeout=30), driver.returncode) == ("ok worker_lost\n", "", 0)
    assert [process for process in family if process.is_running()] == []


def test_a_search_whose_cluster_dies_says_so_at_once():
    driver = start_driver("sleep", "sleep")
    raylet = next(child for child in psutil.Process(driver.pid).children() if child.name() == "raylet")
    raylet.kill()
    _, err = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert "Ray's process raylet on this machine has died, so no trial can run" in err


def test_workers_do_not_outlive_a_driver_that_was_killed():
    with start_driver("spin", "sleep") as driver:
        workers = workers_under(driver.pid)
        assert len(workers) == 2
        driver.kill()
        assert psutil.wait_procs(workers, timeout=20)[1] == []
