"""What a dry run plans for devices that are nowhere, and that the process which plans claims none."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from primer_search.configs import load
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.programs.library import get
from primer_search.search.config import RunConfig
from primer_search.search.runs.run_settings import load_config
from primer_search.search.runs.store import Store
from primer_search.system.host import usable_core_count
from primer_search.tests.support.command import HandmadeRun, Result, command, refused
from primer_search.tests.support.tiny_runs import CONFIG
from primer_search.workers.config import WorkersConfig
from primer_search.workers.devices.discovery import FAKE_DEVICES, VisibleDevices, fake_devices
from primer_search.workers.devices.memory_estimate import SMALLEST_MEMORY_FRACTION, estimate_memory

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
        "simulated": True,
    }
    assert plan["config"]["model"]["precision"] == "bfloat16"
    # The end retrains ten candidates, the baseline and PRIMER_EZ six times: nine rounds on eight workers.
    # Before it come three trials of the baseline, seven full trials before hurdles stop any, then a mean trial of
    # 112 s, a 25th of a control, and a minute around both.
    confirmation = 20 + 9 * (1.2 * 420 + 10)
    left = 8 * (86_400 - confirmation) - (3 + 7) * 480
    assert plan["candidates_expected"] == pytest.approx(7 + left / (112 + 60 + 480 / 25), abs=1)
    assert 2**30 < plan["memory_needed_bytes"] < plan["memory_of_worker_bytes"] < 32 * 2**30


def test_the_plan_reads_as_a_table(fake: pytest.MonkeyPatch) -> None:
    lines = command("--budget", "24h", "--accel", "tpu", "--dry-run").out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["workers"] == "8 on tpu (ray)"
    assert facts["devices"] == "8 x TPU v4, 32 GiB each (simulated)"
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
    assert "trial.devices=2 would use all of them" in planned()["notes"][0]
    assert planned("--set", "trial.devices=2")["notes"] == []


@pytest.mark.parametrize(
    ("devices", "arguments", "said"),
    [
        ("tpu:8:TPU v4:2GiB", (), "a worker has 1.9 GiB of each TPU v4: lower trial.batch, model.length or model.laye"),
        ("gpu:1:A10:24GiB", ("--workers-per-device", "8"), "of each A10: lower workers.per_device"),
        (TPUS, ("--workers-per-device", "2"), "one process owns a TPU chip"),
        (TPUS, ("--workers", "9"), "workers.count is 9, but 8 TPU chips hold only 8"),
        (TPUS, ("--accel", "gpu"), "--accel gpu: JAX sees no GPU on this machine, only 8 TPU devices"),
        ("tpu:8:TPU v4:32GB", (), "must have the form platform:devices[:kind[:memory]]"),
        ("npu:8", (), "must have the form platform:devices[:kind[:memory]]"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_sentence(
    fake: pytest.MonkeyPatch, devices: str, arguments: tuple[str, ...], said: str
) -> None:
    fake.setenv(FAKE_DEVICES, devices)
    assert said in refused("--budget", "24h", "--dry-run", *arguments)


@pytest.mark.parametrize("shown", ["XLA_FLAGS", "JAX_NUM_CPU_DEVICES"])
def test_an_inline_trial_takes_no_more_devices_than_this_process_shows(
    shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    spread = ("--config", "laptop", "--executor", "inline", "--set", "trial.devices=8", "--run-dir", tmp_path / "run")
    said = refused(*spread)
    assert "trial.devices is 8, but a worker sees 1 CPU device: train with --executor ray" in said
    assert not (tmp_path / "run").exists(), "nothing is made for what cannot train"
    flag = "--xla_force_host_platform_device_count="
    monkeypatch.setenv(shown, f"--other=1 {flag}2 {flag}8" if shown == "XLA_FLAGS" else "8")
    assert planned(*map(str, spread))["devices_per_worker"] == 8


def test_cpus_beside_simulated_accelerators_are_those_of_this_machine(fake: pytest.MonkeyPatch) -> None:
    plan = planned("--accel", "cpu")
    assert plan["workers"] == usable_core_count()
    assert not plan["devices"]["simulated"]


def test_the_process_of_an_inline_search_has_what_jax_takes_unasked(fake: pytest.MonkeyPatch) -> None:
    fake.setenv(FAKE_DEVICES, "gpu:2:NVIDIA H100:80GiB")
    assert planned("--executor", "inline")["memory_of_worker_bytes"] == 60 * 2**30
    assert planned()["memory_of_worker_bytes"] == 72 * 2**30


def test_studies_take_workers_per_device_and_keep_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shared = replace(CONFIG, workers=WorkersConfig(count=2, accel="gpu", per_device=4))
    with Store.create(tmp_path / "run", {"config": shared.to_dict()}) as store:
        assert load_config(store).workers.per_device == 4
        assert load_config(store, workers_per_device=1).workers == WorkersConfig(count=2, accel="gpu")
    said = "workers.per_device = 2 has no effect with workers.accel = cpu"
    for study in (("compare", "PRIMER_EZ"), ("ablate", "PRIMER_EZ")):
        assert said in refused(*study, "--config", "laptop", "--workers-per-device", "2")
    for study in (("confirm", "cpus"), ("ablate", "cpus", "1")):
        run = HandmadeRun(tmp_path / "cpus" / study[0])
        run.child("PRIMER_EZ", 2.0)
        sentence = refused(study[0], run.path, *study[2:], "--workers-per-device", "2")
        assert "workers.per_device = 2 needs workers.executor = ray" in sentence


def test_simulated_devices_train_nothing(fake: pytest.MonkeyPatch) -> None:
    assert f"{FAKE_DEVICES} is only for --dry-run" in refused("--budget", "24h", "--accel", "tpu")
    assert fake_devices(dry_run=False, environment={}) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--accel", "cpu", "--workers-per-device", "2"), "has no effect with workers.accel = cpu"),
        (("--config", "smoke", "--workers-per-device", "2"), "needs workers.executor = ray"),
    ],
)
def test_sharing_what_cannot_be_shared_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("--dry-run", *arguments)


def compiled(config: RunConfig) -> tuple[Any, Any, int]:
    """The training step of the baseline, as JAX asks for it and as XLA compiled it, and the bytes of parameters."""
    import jax
    import numpy as np

    from primer_search.models.language_model import language_model
    from primer_search.workers.training.steps.optimizer import make_optimizer
    from primer_search.workers.training.steps.train_step import StepFunctions
    from primer_search.workers.training.steps.whole_step import WholeStep, mean_token_loss

    graph = build_graph(get(config.search.baseline, config.model.unit))
    model, optimizer = language_model(graph, config.model), make_optimizer(config.optimizer)
    functions = StepFunctions(model, optimizer, config.trial.batch, config.optimizer.averaging)
    state = functions.initial_state(model.init(np.random.default_rng(0)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    batch = jax.ShapeDtypeStruct((config.trial.batch, config.model.length + 1), np.int32)
    step = WholeStep(model, optimizer, batch, config.optimizer.averaging, None, None, mean_token_loss).step
    asked = jax.jit(step, donate_argnums=0).lower(shapes, batch)
    return asked, asked.compile(), sum(leaf.nbytes for leaf in jax.tree.leaves(state.parameters))


def stacked_bytes(program: str, layers: int) -> int:
    """What the scan over layers keeps of each layer, by the types of a program's loops."""
    sizes, kept = {"f32": 4, "bf16": 2, "pred": 1}, [0]
    for line in program.splitlines():
        carried = re.findall(rf"(\w+)\[{layers},([\d,]+)\]", line.partition(" while(")[0]) if " while(" in line else []
        kept.append(
            sum(sizes.get(type_, 4) * layers * math.prod(map(int, shape.split(","))) for type_, shape in carried)
        )
    return max(kept)


@pytest.mark.parametrize(("layers", "precision"), [(2, "float32"), (6, "bfloat16")])
def test_the_memory_of_a_training_is_more_than_xla_counts_and_not_much_more(layers: int, precision: str) -> None:
    size = ["model.unit=8", f"model.layers={layers}", "model.length=64", "trial.batch=8", "model.parameter_cap=1.0"]
    config = load("smoke", [*size, f"model.precision={precision}"])
    asked, step, parameters = compiled(config)
    counted = step.memory_analysis().argument_size_in_bytes + step.memory_analysis().temp_size_in_bytes
    # The CPU of JAX before 0.12 keeps bfloat16 in float32: what the layers keep is counted as it was asked for.
    emulated = stacked_bytes(step.as_text(), layers) - stacked_bytes(asked.as_text("hlo"), layers)
    assert emulated >= 0
    need = estimate_memory(build_graph(get("TRANSFORMER", 8)), config.model, config.trial, config.optimizer)
    assert need.parameters == parameters
    assert SMALLEST_MEMORY_FRACTION * need.total <= counted - emulated <= need.total


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
from primer_search.cli.options import pin_to_cpu
from primer_search.workers.devices import discovery
discovery._ask_jax = lambda environment: discovery.VisibleDevices("tpu", ("TPU v4",) * 4)
seen = discovery.resolve_platform("tpu")
if "jax-first" in sys.argv:
    import jax
pin_to_cpu(seen, "ray")
assert discovery.resolve_platform("tpu") == "tpu", "what was seen before is remembered"
import primer_search.search.sessions.session
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


SPY = """
import os
from jax._src import xla_bridge

def opened():
    with open(os.environ["SPY_LOG"], "a") as file:
        file.write("opened ")
    raise RuntimeError("nobody may open it")

def initialize():
    xla_bridge.register_backend_factory("spy", opened, priority=900)
"""

READING = """
import os, sys
from primer_search.cli.app import main
run, folder = sys.argv[1:]
page, block = f"{folder}/page.html", f"{folder}/block.py"
reading = ["leaderboard", run], ["show", run, "best"], ["report", run, "-o", page], ["check", "PRIMER_EZ"]
for words in (*reading, ["export", run, "best", "-o", block], ["--dry-run"]):
    assert main(words) == 0, words
    os.environ.pop("JAX_PLATFORMS", None)
import jax
try:
    print(jax.config.jax_platforms, {device.platform for device in jax.devices()})
except RuntimeError as error:
    print(error)
"""


@pytest.mark.slow
def test_commands_that_read_check_and_export_open_no_accelerator(tmp_path: Path) -> None:
    (tmp_path / "jax_plugins" / "spy").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "spy" / "__init__.py").write_text(SPY)
    run = HandmadeRun(tmp_path / "run")
    run.child("PRIMER_EZ", 2.0)
    run.store.close()
    log = tmp_path / "opened"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SPY_LOG": str(log)}
    environment.pop("JAX_PLATFORMS", None)
    script = [sys.executable, "-c", READING, str(run.path), str(tmp_path)]
    answer = subprocess.run(script, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert not log.exists(), answer.stdout
    subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], capture_output=True, env=environment)
    assert log.read_text(), "whoever names no platform opens it"


def test_a_number_of_workers_that_the_cores_cannot_bear_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primer_search.system.host.usable_core_count", lambda: 2)
    said = refused("--config", "smoke", "--executor", "ray", "--accel", "cpu", "--workers", "1000", "--dry-run")
    assert "workers.count is 1000, but this machine has 2 cores: give at most 16, or 0 for one worker per core" in said
    assert command("--config", "smoke", "--executor", "ray", "--accel", "cpu", "--workers", "16", "--dry-run").code == 0


def test_devices_say_what_they_are() -> None:
    simulated = fake_devices(dry_run=True, environment={FAKE_DEVICES: "gpu:2x4:NVIDIA A100:40.5GiB"})
    assert simulated == VisibleDevices("gpu", ("NVIDIA A100",) * 8, round(40.5 * 2**30), (4, 4))
    assert str(simulated) == "8 GPU devices"
