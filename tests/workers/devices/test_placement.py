"""Placement of workers on simulated devices."""

from __future__ import annotations

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.workers.devices.discovery import VisibleDevices, devices_in_nodes
from primer_search.workers.devices.placement import CHIP_BOUNDS, WorkerResources, gpu_memory_fraction, place_workers


def tpus(*hosts: int, kind: str = "TPU v4") -> VisibleDevices:
    return VisibleDevices("tpu", (kind,) * sum(hosts), 32 * 2**30, hosts)


def gpus(*hosts: int) -> VisibleDevices:
    return VisibleDevices("gpu", ("NVIDIA H100",) * sum(hosts), 80 * 2**30, hosts)


@pytest.mark.parametrize(
    ("seen", "devices", "per_device", "workers"),
    [
        (gpus(8), 1, 1, 8),
        (gpus(8), 1, 4, 32),
        (gpus(8), 2, 1, 4),
        (gpus(3), 2, 1, 1),
        (gpus(8, 4), 4, 1, 3),
        (gpus(1, 1), 1, 3, 6),
        (tpus(4), 1, 1, 4),
        (tpus(4), 4, 1, 1),
        (tpus(4, 4, 4, 4), 4, 1, 4),
        (tpus(4, 4), 2, 1, 4),
        (tpus(8, kind="TPU v5 lite"), 8, 1, 1),
        (tpus(8, kind="TPU v3"), 1, 1, 4),
        (tpus(8, kind="TPU v3"), 2, 1, 4),
        (tpus(8, kind="TPU v3"), 8, 1, 1),
    ],
)
def test_as_many_workers_as_the_devices_of_each_host_hold(
    seen: VisibleDevices, devices: int, per_device: int, workers: int
) -> None:
    assert place_workers(seen, devices=devices, per_device=per_device).workers == workers


def test_fewer_workers_than_places_are_placed() -> None:
    placement = place_workers(gpus(8), per_device=2, count=3)
    assert (placement.workers, placement.workers_per_host) == (3, 3)


@pytest.mark.parametrize(
    ("seen", "options", "sentence"),
    [
        (gpus(4), {"count": 5}, "workers.count is 5, but 4 GPUs hold only 4: lower workers.count, or share"),
        (tpus(4), {"count": 5}, "workers.count is 5, but 4 TPU chips hold only 4: lower workers.count$"),
        (
            gpus(2, 2),
            {"devices": 4},
            "trial.devices is 4, all on one host, but the largest host has 2 GPUs .*lower trial.devices",
        ),
        (tpus(4, 4), {"devices": 8}, "trial.devices is 8, all on one host, but the largest host has 4 TPU chips"),
        (
            tpus(8, kind="TPU v3"),
            {"devices": 16},
            "the largest host has 4 TPU chips of two devices .*lower trial.devices",
        ),
        (tpus(4), {"devices": 3}, "takes 3 TPU chips of a host, but a worker can have only 1, 2, 4, 8"),
    ],
)
def test_what_no_host_can_hold_is_refused_in_one_sentence(
    seen: VisibleDevices, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        place_workers(seen, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("workers", range(1, 9))
def test_processes_that_share_a_gpu_leave_room_for_what_is_outside_their_pools(workers: int) -> None:
    left = 1 - workers * gpu_memory_fraction(workers)
    assert left * 16 * 2**30 >= workers * 0.8 * 2**30 * (1 - 1e-9)
    assert gpu_memory_fraction(workers) > 0.05


def test_workers_that_share_a_gpu_reserve_a_part_of_it_and_of_its_memory() -> None:
    resources = WorkerResources("gpu", per_device=4)
    assert resources.ray_options() == {"num_cpus": 0, "num_gpus": 0.25}
    assert resources.ray_options(alone=False)["num_cpus"] == 1
    variables = resources.environment()
    assert float(variables["XLA_CLIENT_MEM_FRACTION"]) == pytest.approx(gpu_memory_fraction(4))
    assert variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "", "JAX refuses both names together"


def test_a_worker_of_several_gpus_reserves_them_whole() -> None:
    assert WorkerResources("gpu", devices=4).ray_options()["num_gpus"] == 4


@pytest.mark.parametrize(
    ("devices", "kind", "chips"),
    [(1, "TPU v4", 1), (4, "TPU v4", 4), (1, "TPU v3", 1), (2, "TPU v3", 1), (8, "TPU v2", 4), (2, "TPU7x", 1)],
)
def test_a_tpu_worker_owns_chips_and_is_told_that_there_are_no_others(devices: int, kind: str, chips: int) -> None:
    resources = WorkerResources("tpu", devices)
    assert resources.ray_options(kind)["resources"] == {"TPU": chips}
    variables = resources.environment(kind)
    assert variables["TPU_PROCESS_BOUNDS"] == "1,1,1"
    x, y, z = map(int, variables["TPU_CHIPS_PER_PROCESS_BOUNDS"].split(","))
    assert x * y * z == chips
    assert variables["TPU_CHIPS_PER_PROCESS_BOUNDS"] == CHIP_BOUNDS[chips]
    assert "TPU_VISIBLE_CHIPS" not in variables, "Ray says which"


def test_ray_accepts_every_number_of_chips_a_worker_may_ask_for() -> None:
    from ray._private.accelerators.tpu import TPUAcceleratorManager

    assert all(TPUAcceleratorManager.validate_resource_request_quantity(chips)[0] for chips in CHIP_BOUNDS)
    assert not TPUAcceleratorManager.validate_resource_request_quantity(3)[0]


def test_a_cpu_worker_that_spreads_a_trial_gets_as_many_devices() -> None:
    resources = WorkerResources("cpu", devices=8)
    assert resources.xla_flags == "--xla_force_host_platform_device_count=8"
    assert (resources.environment(), resources.ray_options()) == ({}, {"num_cpus": 1})
    assert WorkerResources("cpu").xla_flags == ""


NODES = [
    {"CPU": 8.0, "memory": 1e9},
    {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0},
    {"CPU": 12.0, "GPU": 1.0, "accelerator_type:A100": 1.0},
    {"CPU": 4.0, "TPU": 4.0, "accelerator_type:TPU-V3": 1.0},
]


def test_the_devices_of_a_cluster_are_read_from_its_nodes() -> None:
    seen = devices_in_nodes(NODES)
    assert (seen.platform, seen.kind, seen.per_host) == ("gpu", "H100", (8, 1))
    slice_ = devices_in_nodes(NODES, "tpu")
    assert (slice_.platform, slice_.kind, slice_.per_host) == ("tpu", "TPU-V3", (8,))
    assert place_workers(slice_).workers == 4
    assert devices_in_nodes(NODES, "cpu").per_host == (8, 96, 12, 4)
    assert devices_in_nodes(NODES[:1]).platform == "cpu"
