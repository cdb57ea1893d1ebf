"""Placement as Ray carries it out, for devices that Ray is only told of: what workers find in their environment."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from primer_search.workers.devices.placement import WorkerResources, gpu_memory_fraction
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest

TOLD = (
    "CUDA_VISIBLE_DEVICES",
    "XLA_CLIENT_MEM_FRACTION",
    "TPU_VISIBLE_CHIPS",
    "TPU_CHIPS_PER_PROCESS_BOUNDS",
    "TPU_PROCESS_BOUNDS",
    "JAX_PLATFORMS",
)


class EnvironmentTrainer:
    """Says what its process was told."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        return Evaluation("ok", json.dumps({name: os.environ.get(name) for name in TOLD}), loss_nats=1.0)


@pytest.fixture(scope="module", autouse=True)
def devices(one_ray_at_a_time: None) -> Iterator[None]:
    """A Ray that was told of a GPU and of a TPU host with four chips, which are not there."""
    from primer_search.workers.devices.ray_environment import keep_sigterm_handler
    from primer_search.workers.executors.ray_cluster import cloudpickle, ray

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    with keep_sigterm_handler():
        ray.init("local", num_cpus=2, num_gpus=1, resources={"TPU": 4}, **quiet)
    yield
    ray.shutdown()


def told(resources: WorkerResources) -> list[dict[str, str | None]]:
    """What each worker of an executor was told, once all are up."""
    from primer_search.workers.executors.ray_pool import RayExecutor

    answers: dict[int, dict[str, str | None]] = {}
    with RayExecutor(EnvironmentTrainer, wall_limit_seconds=60.0, resources=resources) as executor:
        while executor.free < executor.slots:
            executor.wait(1.0)
        for trial in range(executor.slots):
            executor.submit(TrialRequest(trial, trial, "", 0))
        while len(answers) < executor.slots:
            answers |= {request.trial_id: json.loads(said.message) for request, said in executor.wait(1.0)}
    return list(answers.values())


def test_six_workers_share_a_gpu_though_a_sixth_is_no_number_of_rays() -> None:
    workers = told(WorkerResources("gpu", per_device=6))
    assert len(workers) == 6
    assert {worker["CUDA_VISIBLE_DEVICES"] for worker in workers} == {"0"}
    assert {worker["XLA_CLIENT_MEM_FRACTION"] for worker in workers} == {f"{gpu_memory_fraction(6):.4f}"}
    assert {worker["JAX_PLATFORMS"] for worker in workers} == {"cuda,cpu"}


def test_each_worker_has_a_tpu_chip_of_its_own() -> None:
    workers = told(WorkerResources("tpu"))
    assert Counter(worker["TPU_VISIBLE_CHIPS"] for worker in workers) == Counter("0123")
    assert {worker["TPU_CHIPS_PER_PROCESS_BOUNDS"] for worker in workers} == {"1,1,1"}
    assert {worker["JAX_PLATFORMS"] for worker in workers} == {"tpu,cpu"}


def test_one_worker_has_the_chips_of_a_whole_host() -> None:
    [worker] = told(WorkerResources("tpu", devices=4))
    assert (worker["TPU_CHIPS_PER_PROCESS_BOUNDS"], worker["TPU_PROCESS_BOUNDS"]) == ("2,2,1", "1,1,1")
    assert worker["TPU_VISIBLE_CHIPS"] in (None, "0,1,2,3")
