"""What a dry run plans for devices that are nowhere, and that the process which plans claims none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from primer_search.configs import load
from primer_search.primitives.canonical import build_graph
from primer_search.primitives.library import get
from primer_search.tests.command import Result, command, refused
from primer_search.workers.accelerators import FAKE_DEVICES, VisibleDevices, fake_devices
from primer_search.workers.memory import LEAST_SHARE, estimate_memory

TPUS = "tpu:8:TPU v4:32GiB"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv(FAKE_DEVICES, TPUS)
    return monkeypatch


def planned(*arguments: str) -> dict[str, Any]:
    result: Result = command("--budget", "24h", "--dry-run", "--json", *arguments)
    assert result.code == 0, result.err
    return result.json


def test_a_day_on_eight_tpus_is_planned_right(fake: pytest.MonkeyPatch) -> None:
    plan = planned("--accel", "tpu")
    assert (plan["preset"], plan["platform"], plan["workers"], plan["trial_budget"]) == ("tpu", "tpu", 8, 420.0)
    assert plan["devices"] == {
        "platform": "tpu",
        "kind": "TPU v4",
        "hosts": [8],
        "memory_bytes": 32 * 2**30,
        "made_up": True,
    }
    assert plan["config"]["model"]["precision"] == "bfloat16"
    # A mean trial of 112 s and a minute around it, on eight workers.
    assert plan["candidates_expected"] == pytest.approx(8 * 86_400 / (112 + 60), rel=0.02)
    assert 2**30 < plan["memory_needed_bytes"] < plan["memory_of_worker_bytes"] < 32 * 2**30


def test_the_plan_reads_as_a_table(fake: pytest.MonkeyPatch) -> None:
    lines = command("--budget", "24h", "--accel", "tpu", "--dry-run").out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["workers"] == "8 on tpu (ray)"
    assert facts["devices"] == "8 x TPU v4, 32 GiB each (made up)"
    assert facts["memory"].startswith("about ")
    assert facts["memory"].endswith("a worker has 30.4 GiB of each device")


@pytest.mark.parametrize(
    ("devices", "arguments", "workers"),
    [
        ("tpu:4x4:TPU v4:32GiB", ("--set", "trial.devices=4"), 4),
        ("tpu:8:TPU v3:16GiB", (), 4),
        ("gpu:2x8:NVIDIA H100:80GiB", (), 16),
        ("gpu:2:NVIDIA H100:80GiB", ("--workers-per-device", "3"), 6),
        ("gpu:2:NVIDIA H100:80GiB", ("--workers", "1"), 1),
        ("gpu:1", (), 1),
    ],
)
def test_workers_follow_the_devices(
    fake: pytest.MonkeyPatch, devices: str, arguments: tuple[str, ...], workers: int
) -> None:
    fake.setenv(FAKE_DEVICES, devices)
    assert planned(*arguments)["workers"] == workers


def test_a_chip_of_two_devices_is_pointed_out(fake: pytest.MonkeyPatch) -> None:
    fake.setenv(FAKE_DEVICES, "tpu:8:TPU v3:16GiB")
    assert "trial.devices=2 would use them all" in planned()["notes"][0]
    assert planned("--set", "trial.devices=2")["notes"] == []


@pytest.mark.parametrize(
    ("devices", "arguments", "said"),
    [
        ("tpu:8:TPU v4:2GiB", (), "a worker has 1.9 GiB of each TPU v4: lower trial.batch, model.length or model.laye"),
        ("gpu:1:A10:24GiB", ("--workers-per-device", "8"), "of each A10: lower workers.per_device."),
        (TPUS, ("--workers-per-device", "2"), "a TPU chip belongs to the one process that opens it"),
        (TPUS, ("--workers", "9"), "workers.count asks for 9 workers, but 8 TPU chips hold 8"),
        (TPUS, ("--accel", "gpu"), "--accel gpu: JAX sees no GPU here, only 8 TPU devices"),
        ("tpu:8:TPU v4:32GB", (), "must read platform:devices[:kind[:memory]]"),
        ("npu:8", (), "must read platform:devices[:kind[:memory]]"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_sentence(
    fake: pytest.MonkeyPatch, devices: str, arguments: tuple[str, ...], said: str
) -> None:
    fake.setenv(FAKE_DEVICES, devices)
    assert said in refused("--budget", "24h", "--dry-run", *arguments)


def test_made_up_devices_train_nothing(fake: pytest.MonkeyPatch) -> None:
    assert f"{FAKE_DEVICES} is for --dry-run alone" in refused("--budget", "24h", "--accel", "tpu")
    assert fake_devices(dry_run=False, environment={}) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--accel", "cpu", "--workers-per-device", "2"), "has no effect on workers.accel = cpu"),
        (("--config", "smoke", "--workers-per-device", "2"), "needs workers.executor = ray"),
    ],
)
def test_sharing_what_cannot_be_shared_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("--dry-run", *arguments)


def test_the_memory_of_a_training_is_more_than_xla_counts_and_not_much_more() -> None:
    import jax
    import numpy as np

    from primer_search.models.language_model import language_model
    from primer_search.workers.optimizer import initial_state, make_optimizer
    from primer_search.workers.steps import StepFunctions, TrainState

    config = load("smoke", ["model.unit=8", "model.length=64", "trial.batch=8", "model.parameter_cap=1.0"])
    graph = build_graph(get("TRANSFORMER", config.model.unit))
    model, optimizer = language_model(graph, config.model), make_optimizer(config.optimizer)
    parameters = model.init(np.random.default_rng(0))
    state = TrainState(parameters, initial_state(optimizer, parameters))
    functions = StepFunctions(model, optimizer, config.trial.batch)
    functions.compile_step(state)
    counted: Any = functions._step.memory_analysis()  # type: ignore[union-attr] - the compiled step
    need = estimate_memory(graph, config.model, config.trial, config.optimizer)
    assert LEAST_SHARE * need.total <= counted.argument_size_in_bytes + counted.temp_size_in_bytes <= need.total
    assert need.parameters == sum(leaf.nbytes for leaf in jax.tree.leaves(parameters))


def test_memory_falls_with_devices_and_rises_with_the_average() -> None:
    config = load("gpu")
    graph = build_graph(get("TRANSFORMER", config.model.unit))
    one = estimate_memory(graph, config.model, config.trial, config.optimizer)
    trial = load("gpu", ["trial.devices=4"]).trial
    four = estimate_memory(graph, config.model, trial, config.optimizer)
    assert four.activations * 4 == pytest.approx(one.activations)
    assert four.optimizer == one.optimizer
    averaged = load("gpu", ["optimizer.averaging=8.0"]).optimizer
    assert estimate_memory(graph, config.model, config.trial, averaged).parameters == 2 * one.parameters


CONTROLLER = """
import os, sys
from primer_search.cli_options import pin_to_cpu
from primer_search.workers import accelerators
accelerators._ask_jax = lambda environment: accelerators.VisibleDevices("tpu", ("TPU v4",) * 4)
seen = accelerators.resolve_platform("tpu")
if "jax-first" in sys.argv:
    import jax
pin_to_cpu(seen, "ray")
assert accelerators.resolve_platform("tpu") == "tpu", "what was seen before is remembered"
import primer_search.search.session
if "jax-first" not in sys.argv:
    assert "jax" not in sys.modules, "the controller needs no JAX"
    import jax
from jax._src import xla_bridge
print(os.environ["JAX_PLATFORMS"], {device.platform for device in jax.devices()}, sorted(xla_bridge.backends()))
"""


@pytest.mark.parametrize("order", ["pin-first", "jax-first"])
def test_the_controller_of_an_accelerators_search_initialises_the_cpu_alone(order: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    command = [sys.executable, "-c", CONTROLLER, order]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert answer.stdout == "cpu {'cpu'} ['cpu']\n", answer.stderr


def test_devices_say_what_they_are() -> None:
    made_up = fake_devices(dry_run=True, environment={FAKE_DEVICES: "gpu:2x4:NVIDIA A100:40.5GiB"})
    assert made_up == VisibleDevices("gpu", ("NVIDIA A100",) * 8, round(40.5 * 2**30), (4, 4))
    assert str(made_up) == "8 GPU devices"
