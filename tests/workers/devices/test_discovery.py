"""Discovery of devices through JAX or Ray in a separate process, and errors for missing ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.workers.devices.discovery import VisibleDevices, cluster_devices, resolve_platform, visible_devices

CPU = VisibleDevices("cpu", ("cpu",))
GPUS = VisibleDevices("gpu", ("NVIDIA H100", "NVIDIA H100"))
TPU = VisibleDevices("tpu", ("TPU v4",))


@pytest.mark.parametrize("seen", [CPU, GPUS, TPU])
def test_auto_uses_the_devices_that_exist(seen: VisibleDevices) -> None:
    assert resolve_platform("auto", seen) == seen.platform


@pytest.mark.parametrize("seen", [CPU, GPUS, TPU])
def test_the_cpu_always_exists(seen: VisibleDevices) -> None:
    assert resolve_platform("cpu", seen) == "cpu"


@pytest.mark.parametrize(("accel", "seen"), [("gpu", GPUS), ("tpu", TPU)])
def test_an_accelerator_that_exists_is_used(accel: str, seen: VisibleDevices) -> None:
    assert resolve_platform(accel, seen) == accel


@pytest.mark.parametrize(
    ("accel", "seen", "said"),
    [
        ("tpu", CPU, "1 CPU device:"),
        ("tpu", GPUS, "2 GPU devices:"),
        ("gpu", CPU, "1 CPU device:"),
        ("gpu", TPU, "TPU"),
    ],
)
def test_a_missing_accelerator_is_refused_with_the_existing_devices_and_a_remedy(
    accel: str, seen: VisibleDevices, said: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_platform(accel, seen)
    message = str(refusal.value)
    assert f"--accel {accel}: JAX sees no {accel.upper()} on this machine" in message
    assert said in message
    assert f"use --accel {seen.platform}" in message
    assert "pip install 'jax[" in message
    assert "\n" not in message


def test_a_process_pinned_to_the_cpu_sees_the_cpu_without_asking_jax() -> None:
    question = (
        "import sys; from primer_search.workers.devices.discovery import visible_devices;"
        "print(visible_devices(), 'jax' in sys.modules)"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, env=environment)
    assert answer.stdout.strip() == "1 CPU device False"


def test_jax_runs_in_another_process_if_something_suggests_an_accelerator() -> None:
    # A TPU's name and no TPU: JAX says what it finds, and this process claims nothing.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    seen = visible_devices({**environment, "TPU_NAME": "local"})
    assert seen.platform in ("cpu", "gpu")
    assert seen.kinds


def test_the_cpu_is_used_if_jax_fails() -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform", "TPU_NAME": "local"}
    seen = visible_devices(environment)
    assert replace(seen, trouble="") == CPU
    assert "no_such_platform" in seen.trouble
    with pytest.raises(UsageError, match=r"only 1 CPU device \(JAX_PLATFORMS names no_such_platform, but "):
        resolve_platform("tpu", seen)


def test_a_platform_that_is_named_and_missing_is_said_without_a_hint_of_a_device() -> None:
    seen = visible_devices({**os.environ, "JAX_PLATFORMS": "cuda,cpu"})
    assert seen.platform == "gpu" or seen.trouble == "JAX_PLATFORMS names cuda, but JAX finds no such device"


def test_an_accelerator_that_the_environment_hides_is_refused_with_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(UsageError, match="use --accel cpu, unset JAX_PLATFORMS, which is cpu, or install"):
        resolve_platform("gpu", CPU)


def test_a_cluster_of_other_versions_is_refused_with_all_that_ray_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Version mismatch: The cluster was started with:\\n    Ray: 2.60.0\\n    Python: 3.11.9"
    (tmp_path / "ray.py").write_text(f"def init(*_, **__):\n    raise RuntimeError('{said}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        with pytest.raises(UsageError) as refusal:
            cluster_devices(address)
    words = " ".join(said.replace("\\n", " ").split())
    assert str(refusal.value) == f"cannot join the Ray cluster at --address {address}: {words}"
