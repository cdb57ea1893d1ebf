"""Which devices there are, asked in a process of its own: the controller must never claim an accelerator.

On this machine JAX is asked, of a Ray cluster Ray. `--dry-run` plans for devices that are nowhere, which
`PRIMER_SEARCH_FAKE_DEVICES` describes: `tpu:8:TPU v4:32GiB`, or `gpu:2x8:NVIDIA H100:80GiB` for two hosts of eight.
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
"""The environment variable that `--dry-run` reads devices from."""

_QUESTION = """
import jax, json
devices = jax.devices()
memory = min((device.memory_stats() or {}).get("bytes_limit", 0) for device in devices)
print(json.dumps([devices[0].platform, [device.device_kind for device in devices], memory or None]))
"""
_CLUSTER_QUESTION = """
import json, logging, sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
print(json.dumps([node["Resources"] for node in ray.nodes() if node["Alive"]]))
"""
_ANSWER_SECONDS = 120
_CLUSTER_SECONDS = 60
_TWO_DEVICES = ("tpuv2", "tpuv3", "tpu7", "tpu7x", "tpu8i", "tpuv7x", "tpuv8i")
"""Two cores a chip that are no `megacore`: jax/_src/pallas/mosaic/tpu_info.py; the last are Ray's names."""
_ADVICE = {
    "gpu": "install JAX for it with `pip install 'jax[cuda13]'`",
    "tpu": "on a TPU machine install JAX for it with `pip install 'jax[tpu]'`",
}
_PLATFORMS: dict[str, Platform] = {"cpu": "cpu", "gpu": "gpu", "tpu": "tpu", "cuda": "gpu", "rocm": "gpu"}
_FAKE = re.compile(
    r"(?P<platform>cpu|gpu|tpu):((?P<hosts>[1-9]\d{0,3})x)?(?P<devices>[1-9]\d{0,3})"
    r"(:(?P<kind>[^:]+)(:(?P<gib>\d+(\.\d+)?)GiB)?)?"
)


@dataclass(frozen=True, slots=True)
class VisibleDevices:
    """The devices of a machine, or of a cluster.

    Attributes:
        platform: `cpu`, `gpu` or `tpu`.
        kinds: the kind of each device.
        memory_bytes: of one device, the smallest; None where nobody says.
        hosts: devices on each machine; empty means all on one.
        trouble: why there may be others that JAX could not open, in words.
    """

    platform: Platform
    kinds: tuple[str, ...]
    memory_bytes: int | None = None
    hosts: tuple[int, ...] = ()
    trouble: str = ""

    def __str__(self) -> str:
        return f"{len(self.kinds)} {self.platform.upper()} device{'s' if len(self.kinds) != 1 else ''}"

    @property
    def per_host(self) -> tuple[int, ...]:
        """Devices on each machine."""
        return self.hosts or (len(self.kinds),)

    @property
    def kind(self) -> str:
        """What they are; machines with several kinds are judged by the first."""
        return self.kinds[0] if self.kinds else self.platform


def visible_devices(environment: Mapping[str, str] | None = None) -> VisibleDevices:
    """Ask JAX, in another process; where nothing hints at an accelerator the answer is one CPU, at once.

    Args:
        environment: of that process. This process's own is asked about once: it changes when the controller is kept
            off accelerators, and the answer does not.
    """
    return _seen_from_here() if environment is None else _ask_jax(environment)


def cluster_devices(address: str, accel: str = "auto") -> VisibleDevices:
    """Ask a Ray cluster, in another process: its accelerators, or its cores where it has none (or `cpu` is wanted).

    Raises:
        UsageError: nobody answers there, or the cluster cannot be joined.
    """
    check_address(address)
    command = [sys.executable, "-c", _CLUSTER_QUESTION, address]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_CLUSTER_SECONDS, check=True)
        nodes = json.loads(last_line(answer.stdout))
    except subprocess.CalledProcessError as error:
        why = last_line(error.stderr) or error
        raise UsageError(f"cannot join the Ray cluster at --address {address}: {why}") from None
    except subprocess.TimeoutExpired:
        why = f"no answer within {_CLUSTER_SECONDS} s; is it the port of Ray's head (6379), and no firewall between?"
        raise UsageError(f"cannot join the Ray cluster at --address {address}: {why}") from None
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"cannot join the Ray cluster at --address {address}: {error}") from None
    return devices_in_nodes(nodes, accel)


def devices_in_nodes(nodes: list[dict[str, float]], accel: str = "auto") -> VisibleDevices:
    """What the resources of a cluster's nodes amount to, for the accelerator that is wanted.

    Ray counts a TPU by its chips, of which JAX may see two devices each (`devices_per_chip`).
    """
    platforms: tuple[tuple[Platform, str], ...] = (("gpu", "GPU"), ("tpu", "TPU"), ("cpu", "CPU"))
    for platform, resource in platforms:
        having = [node for node in nodes if node.get(resource, 0) >= 1]
        if accel in ("auto", platform) and having:
            named = (name.partition(":")[2] for name in having[0] if name.startswith("accelerator_type:"))
            kind = resource if platform == "cpu" else next(named, resource)
            each = devices_per_chip(kind) if platform == "tpu" else 1
            hosts = tuple(each * int(node[resource]) for node in having)
            return VisibleDevices(platform, (kind,) * sum(hosts), None, hosts)
    cores = sum(int(node.get("CPU", 0)) for node in nodes)
    return VisibleDevices("cpu", ("CPU",) * max(1, cores))


def devices_per_chip(kind: str) -> int:
    """How many devices JAX shows for a TPU chip, from JAX's or Ray's name of its kind.

    >>> [devices_per_chip(kind) for kind in ("TPU v3", "TPU-V3", "TPU v4", "TPU v5 lite", "TPU7x")]
    [2, 2, 1, 1, 2]
    """
    return 2 if kind.lower().replace(" ", "").replace("-", "") in _TWO_DEVICES else 1


def cpu_device_count(environment: Mapping[str, str] = os.environ) -> int:
    """How many CPU devices JAX shows in a process of this environment, read without loading it."""
    flags = re.findall(r"--xla_force_host_platform_device_count=(\d+)", environment.get("XLA_FLAGS", ""))
    own = environment.get("JAX_NUM_CPU_DEVICES", "")  # which wins
    return int(own) if own.isdecimal() else int(flags[-1]) if flags else 1


def too_few_devices_error(wanted: int, seen: int, platform: str) -> UsageError:
    """What to say of `trial.devices` that a worker does not see."""
    more = "train with --executor ray, which gives a CPU worker as many, or " * (platform == "cpu")
    there = f"{seen} {platform.upper()} device{'s' * (seen != 1)}"
    return UsageError(f"trial.devices = {wanted}, but a worker sees {there}: {more}set trial.devices={seen}.")


def find_devices(accel: str, address: str | None = None) -> VisibleDevices:
    """The devices to train on, here or on the cluster at `address`, for an `--accel`; asks nobody for `cpu` here.

    Raises:
        UsageError: they are not there.
    """
    if address is None:
        seen = VisibleDevices("cpu", ("cpu",)) if accel == "cpu" else visible_devices()
    else:
        seen = cluster_devices(address, accel)
    resolve_platform(accel, seen, address)
    return seen


def resolve_platform(accel: str, seen: VisibleDevices | None = None, address: str | None = None) -> Platform:
    """The platform to train on, for an `--accel` of `auto`, `cpu`, `gpu` or `tpu`.

    Args:
        accel: as asked for.
        seen: the devices there are; asked for, if not given and needed.
        address: of a Ray cluster, whose devices count instead of this machine's. What is named there is believed: the
            workers' start tells.

    Raises:
        UsageError: the accelerator asked for is not there; says what is, what to use and what to install.
    """
    if accel == "cpu" or (accel in ("gpu", "tpu") and address is not None and seen is None):
        return accel
    seen = seen or (visible_devices() if address is None else cluster_devices(address))
    if accel == "auto" or accel == seen.platform:
        return seen.platform
    if address is not None:
        raise UsageError(
            f"--accel {accel}: the Ray cluster at --address {address} has no {accel.upper()}; "
            f"use --accel {seen.platform}, or add nodes that have."
        )
    raise UsageError(
        f"--accel {accel}: JAX sees no {accel.upper()} here, only {seen}{f' ({seen.trouble})' * bool(seen.trouble)}; "
        f"use --accel {seen.platform}, or {_ADVICE[accel]}."
    )


def fake_devices(dry_run: bool, environment: Mapping[str, str] = os.environ) -> VisibleDevices | None:
    """The devices that `PRIMER_SEARCH_FAKE_DEVICES` describes, None where it is not set.

    Raises:
        UsageError: it is set for a command that would train, or describes nothing.
    """
    text = environment.get(FAKE_DEVICES)
    if not text:
        return None
    if not dry_run:
        raise UsageError(f"{FAKE_DEVICES} is for --dry-run alone: unset it to train, or add --dry-run.")
    found = _FAKE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{FAKE_DEVICES}={text[:60]!r} must read platform:devices[:kind[:memory]], "
            "such as tpu:8:TPU v4:32GiB, or gpu:2x8:NVIDIA H100:80GiB for two hosts of eight."
        )
    platform = _PLATFORMS[found["platform"]]
    hosts = (int(found["devices"]),) * int(found["hosts"] or 1)
    memory = round(float(found["gib"]) * 2**30) if found["gib"] else None
    return VisibleDevices(platform, (found["kind"] or platform.upper(),) * sum(hosts), memory, hosts)


def use_cpu_only() -> None:
    """Pin this process's JAX to the CPU, whether it is imported already or not: a TPU has one owner at a time."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if (jax := sys.modules.get("jax")) is not None:
        jax.config.update("jax_platforms", "cpu")


@cache
def _seen_from_here() -> VisibleDevices:
    return _ask_jax(dict(os.environ))


def _ask_jax(environment: Mapping[str, str]) -> VisibleDevices:
    if not _hints_at_accelerator(environment):
        return VisibleDevices("cpu", ("cpu",))
    # A process's limit is the whole device then, not three quarters of it.
    fraction = {"XLA_CLIENT_MEM_FRACTION": "1.0", "XLA_PYTHON_CLIENT_MEM_FRACTION": ""}
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            env={**environment, **fraction, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            check=True,
        )
        platform, kinds, memory = json.loads(last_line(answer.stdout))
    except subprocess.TimeoutExpired:
        why = f"JAX gave no answer within {_ANSWER_SECONDS} s; on a TPU slice of several hosts, join Ray with --address"
        return VisibleDevices("cpu", ("cpu",), trouble=why)
    except subprocess.CalledProcessError as error:
        return VisibleDevices("cpu", ("cpu",), trouble=_last_words(error.stderr))
    except (OSError, ValueError, IndexError):
        return VisibleDevices("cpu", ("cpu",))
    found = _PLATFORMS.get(platform, "cpu")
    return VisibleDevices(found, tuple(kinds), memory, trouble=_last_words(answer.stderr) if found == "cpu" else "")


def _last_words(stderr: str) -> str:
    line = " ".join(last_line(stderr).split())
    return f"JAX said: {line[:300]}" if line else ""


def _hints_at_accelerator(environment: Mapping[str, str]) -> bool:
    asked = environment.get("JAX_PLATFORMS", "")
    if asked and set(asked.split(",")) == {"cpu"}:
        return False
    devices = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd", "/dev/dxg")
    named = any(name in environment for name in ("TPU_NAME", "TPU_WORKER_ID", "COLAB_TPU_ADDR"))
    return named or any(glob(pattern) for pattern in devices)
