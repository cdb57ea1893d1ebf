"""Discovery of devices in a separate process, because the controller process must never claim an accelerator.

JAX reports the devices of this machine, and Ray those of a cluster. With `--dry-run`, `PRIMER_SEARCH_FAKE_DEVICES` can
describe other devices: `tpu:8:TPU v4:32GiB`, or `gpu:2x8:NVIDIA H100:80GiB` for two hosts of eight GPUs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from glob import glob

from ...primitives.errors import UsageError
from ...system.error_text import last_line
from ...system.plurals import pluralize
from ..protocol import Platform
from .ray_environment import check_address

__all__ = [
    "FAKE_DEVICES",
    "VisibleDevices",
    "cluster_devices",
    "cpu_device_count",
    "devices_in_nodes",
    "devices_per_chip",
    "fake_devices",
    "find_devices",
    "resolve_platform",
    "too_few_devices_error",
    "use_cpu_only",
    "visible_devices",
]

FAKE_DEVICES = "PRIMER_SEARCH_FAKE_DEVICES"
"""Environment variable that describes devices for `--dry-run`."""

_JAX_PROGRAM = """
import jax, json
devices = jax.devices()
memory = min((device.memory_stats() or {}).get("bytes_limit", 0) for device in devices)
print(json.dumps([devices[0].platform, [device.device_kind for device in devices], memory or None]))
"""
_RAY_PROGRAM = """
import json, logging, sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
print(json.dumps([node["Resources"] for node in ray.nodes() if node["Alive"]]))
"""
_JAX_SECONDS = 120
_RAY_SECONDS = 60
_TWO_CORE_CHIPS = ("tpuv2", "tpuv3", "tpu7", "tpu7x", "tpu8i", "tpuv7x", "tpuv8i")
"""Chips whose two cores are separate devices: JAX's names (jax/_src/pallas/mosaic/tpu_info.py), then Ray's names."""
_INSTALL = {
    "gpu": "install JAX for GPUs with `pip install 'jax[cuda13]'`",
    "tpu": "on a TPU machine, install JAX for TPUs with `pip install 'jax[tpu]'`",
}
_PLATFORMS: dict[str, Platform] = {"cpu": "cpu", "gpu": "gpu", "tpu": "tpu", "cuda": "gpu", "rocm": "gpu"}
_FAKE = re.compile(
    r"(?P<platform>cpu|gpu|tpu):((?P<hosts>[1-9]\d{0,3})x)?(?P<devices>[1-9]\d{0,3})"
    r"(:(?P<kind>[^:]+)(:(?P<gib>\d+(\.\d+)?)GiB)?)?"
)


@dataclass(frozen=True, slots=True)
class VisibleDevices:
    """Devices of a machine or a cluster.

    Attributes:
        platform: `cpu`, `gpu` or `tpu`.
        kinds: kind of each device.
        memory_bytes: memory of the smallest device; None: unknown.
        hosts: number of devices on each host; empty: all on one host.
        trouble: why accelerators that the user expects are missing, such as a message of JAX; empty: none are missing.
    """

    platform: Platform
    kinds: tuple[str, ...]
    memory_bytes: int | None = None
    hosts: tuple[int, ...] = ()
    trouble: str = ""

    def __str__(self) -> str:
        return pluralize(len(self.kinds), f"{self.platform.upper()} device")

    @property
    def per_host(self) -> tuple[int, ...]:
        """Number of devices on each host."""
        return self.hosts or (len(self.kinds),)

    @property
    def kind(self) -> str:
        """Kind of the first device. All devices count as this kind."""
        return self.kinds[0] if self.kinds else self.platform


def visible_devices(environment: Mapping[str, str] | None = None) -> VisibleDevices:
    """Return the devices that JAX sees in another process. If nothing suggests an accelerator, return one CPU at once.

    Args:
        environment: environment variables of the other process; None: those of this process. The result for None is
            cached, because the controller later restricts its own environment to the CPU.
    """
    return _devices_here() if environment is None else _ask_jax(environment)


def cluster_devices(address: str, accel: str = "auto") -> VisibleDevices:
    """Return the accelerators of a Ray cluster, or its cores if it has none or `accel` is `cpu`.

    Raises:
        UsageError: the cluster does not answer or cannot be joined.
    """
    check_address(address)
    command = [sys.executable, "-c", _RAY_PROGRAM, address]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_RAY_SECONDS, check=True)
        return devices_in_nodes(json.loads(last_line(answer.stdout)), accel)
    except subprocess.CalledProcessError as error:
        why = last_line(error.stderr) or error
    except subprocess.TimeoutExpired:
        why = f"no answer within {_RAY_SECONDS} s; check that it is the port of Ray's head (6379), and the firewall"
    except (OSError, ValueError) as error:
        why = error
    raise UsageError(f"cannot join the Ray cluster at --address {address}: {why}")


def devices_in_nodes(nodes: list[dict[str, float]], accel: str = "auto") -> VisibleDevices:
    """Return the devices of a cluster for an `--accel`, given the Ray resources of its nodes.

    Ray counts the chips of a TPU; JAX may see two devices per chip (`devices_per_chip`).
    """
    platforms: tuple[tuple[Platform, str], ...] = (("gpu", "GPU"), ("tpu", "TPU"), ("cpu", "CPU"))
    for platform, resource in platforms:
        found = [node for node in nodes if node.get(resource, 0) >= 1]
        if accel in ("auto", platform) and found:
            types = (name.partition(":")[2] for name in found[0] if name.startswith("accelerator_type:"))
            kind = resource if platform == "cpu" else next(types, resource)
            factor = devices_per_chip(kind) if platform == "tpu" else 1
            hosts = tuple(factor * int(node[resource]) for node in found)
            return VisibleDevices(platform, (kind,) * sum(hosts), None, hosts)
    cores = sum(int(node.get("CPU", 0)) for node in nodes)
    return VisibleDevices("cpu", ("CPU",) * max(1, cores))


def devices_per_chip(kind: str) -> int:
    """Return the number of JAX devices of a TPU chip, by JAX's or Ray's name of its kind.

    >>> [devices_per_chip(kind) for kind in ("TPU v3", "TPU-V3", "TPU v4", "TPU v5 lite", "TPU7x")]
    [2, 2, 1, 1, 2]
    """
    return 2 if kind.lower().replace(" ", "").replace("-", "") in _TWO_CORE_CHIPS else 1


def cpu_device_count() -> int:
    """Return the number of CPU devices that JAX has in this process, without importing JAX."""
    flags = re.findall(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    variable = os.environ.get("JAX_NUM_CPU_DEVICES", "")  # it has precedence over the flag
    return int(variable) if variable.isdecimal() else int(flags[-1]) if flags else 1


def too_few_devices_error(wanted: int, seen: int, platform: str) -> UsageError:
    """Return the error for a worker that sees fewer devices than `trial.devices`."""
    more = f"train with --executor ray, which gives a CPU worker {wanted} devices, or " * (platform == "cpu")
    found = pluralize(seen, f"{platform.upper()} device")
    return UsageError(f"trial.devices is {wanted}, but a worker sees {found}: {more}set trial.devices={seen}")


def find_devices(accel: str, address: str | None = None, setting_of: str = "") -> VisibleDevices:
    """Return the devices to train on for an `--accel`, on this machine or on the cluster at `address`.

    Raises:
        UsageError: the requested accelerator does not exist.
    """
    if address is None:
        seen = VisibleDevices("cpu", ("cpu",)) if accel == "cpu" else visible_devices()
    else:
        seen = cluster_devices(address, accel)
    resolve_platform(accel, seen, address, setting_of)
    return seen


def resolve_platform(
    accel: str, seen: VisibleDevices | None = None, address: str | None = None, setting_of: str = ""
) -> Platform:
    """Return the platform to train on for an `--accel` of `auto`, `cpu`, `gpu` or `tpu`.

    Args:
        accel: value of `--accel`.
        seen: devices that exist; None: they are discovered if necessary.
        address: address of a Ray cluster to use instead of this machine. A requested accelerator is then not checked if
            `seen` is None, because workers fail at their start without it.
        setting_of: run or configuration whose `workers.accel` is `accel`, for messages; empty: `accel` is `--accel`.

    Raises:
        UsageError: the requested accelerator does not exist.
    """
    if accel == "cpu" or (accel in ("gpu", "tpu") and address is not None and seen is None):
        return accel
    seen = seen or (visible_devices() if address is None else cluster_devices(address))
    if accel == "auto" or accel == seen.platform:
        return seen.platform
    if address is not None:
        raise UsageError(
            f"--accel {accel}: the Ray cluster at --address {address} lacks a {accel.upper()}: "
            f"use --accel {seen.platform}, or add nodes with one"
        )
    trouble = f" ({seen.trouble})" if seen.trouble else ""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    remedy = f"{'unset JAX_PLATFORMS, which is cpu, or ' * (chosen == 'cpu')}{_INSTALL[accel]}"
    asked = f"workers.accel = {accel} (in {setting_of})" if setting_of else f"--accel {accel}"
    if not setting_of.startswith("run "):  # a run keeps its accelerator
        remedy = f"use --accel {seen.platform}, {'or ' * (chosen != 'cpu')}{remedy}"
    raise UsageError(f"{asked}: JAX sees no {accel.upper()} on this machine, only {seen}{trouble}: {remedy}")


def fake_devices(dry_run: bool, environment: Mapping[str, str] = os.environ) -> VisibleDevices | None:
    """Return the devices described by `PRIMER_SEARCH_FAKE_DEVICES`, or None if it is not set.

    Raises:
        UsageError: the variable is malformed, or is set for a command that trains.
    """
    text = environment.get(FAKE_DEVICES)
    if not text:
        return None
    if not dry_run:
        raise UsageError(f"{FAKE_DEVICES} is only for --dry-run: unset it to train, or add --dry-run")
    found = _FAKE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{FAKE_DEVICES} is {text[:60]!r}, but must have the form platform:devices[:kind[:memory]], "
            "such as tpu:8:TPU v4:32GiB, or gpu:2x8:NVIDIA H100:80GiB for two hosts of eight GPUs"
        )
    platform = _PLATFORMS[found["platform"]]
    hosts = (int(found["devices"]),) * int(found["hosts"] or 1)
    memory = round(float(found["gib"]) * 2**30) if found["gib"] else None
    return VisibleDevices(platform, (found["kind"] or platform.upper(),) * sum(hosts), memory, hosts)


def use_cpu_only() -> None:
    """Restrict JAX in this process to the CPU, even if JAX is already imported. A TPU has one owner at a time."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.pop("JAX_PLATFORM_NAME", None)
    if (jax := sys.modules.get("jax")) is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_platform_name", "")


@cache
def _devices_here() -> VisibleDevices:
    return _ask_jax(dict(os.environ))


def _ask_jax(environment: Mapping[str, str]) -> VisibleDevices:
    if not _may_have_accelerator(environment):
        return VisibleDevices("cpu", ("cpu",))
    # Make JAX report all of the memory; by default it reports three quarters.
    fraction = {"XLA_CLIENT_MEM_FRACTION": "1.0", "XLA_PYTHON_CLIENT_MEM_FRACTION": ""}
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _JAX_PROGRAM],
            capture_output=True,
            text=True,
            timeout=_JAX_SECONDS,
            env={**environment, **fraction, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            check=True,
        )
        platform, kinds, memory = json.loads(last_line(answer.stdout))
    except subprocess.TimeoutExpired:
        why = f"JAX did not answer within {_JAX_SECONDS} s; on a TPU slice of several hosts, join Ray with --address"
        return VisibleDevices("cpu", ("cpu",), trouble=why)
    except subprocess.CalledProcessError as error:
        return VisibleDevices("cpu", ("cpu",), trouble=_trouble(environment, error.stderr))
    except (OSError, ValueError, IndexError):
        return VisibleDevices("cpu", ("cpu",))
    found = _PLATFORMS.get(platform, "cpu")
    return VisibleDevices(found, tuple(kinds), memory, trouble=_trouble(environment, answer.stderr) * (found == "cpu"))


def _trouble(environment: Mapping[str, str], stderr: str) -> str:
    line = " ".join(last_line(stderr).split())[:300]
    said = f": {line}" if line and line != "AssertionError" else ""  # JAX's answer to `cuda` without a GPU
    if platforms := environment.get("JAX_PLATFORMS", "").removesuffix(",cpu"):
        return f"JAX_PLATFORMS names {platforms}, but JAX finds no such device{said}"
    return f"this machine seems to have an accelerator, but JAX does not open it{said}" if said else ""


def _may_have_accelerator(environment: Mapping[str, str]) -> bool:
    if platforms := environment.get("JAX_PLATFORMS"):
        return bool(set(platforms.split(",")) - {"", "cpu"})
    devices = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd", "/dev/dxg")
    variables = ("TPU_NAME", "TPU_WORKER_ID", "COLAB_TPU_ADDR")
    return any(name in environment for name in variables) or any(glob(pattern) for pattern in devices)
