"""Which devices JAX sees, asked in a process of its own: the controller must never claim an accelerator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from glob import glob

from ..primitives.errors import UsageError
from .executor import Platform

__all__ = ["VisibleDevices", "resolve_platform", "visible_devices"]

_QUESTION = "import jax, json; d = jax.devices(); print(json.dumps([d[0].platform, [x.device_kind for x in d]]))"
_ANSWER_SECONDS = 120
_ADVICE = {
    "gpu": "install JAX for it with `pip install 'primer-search[cuda]'`",
    "tpu": "on a TPU machine install JAX for it with `pip install 'primer-search[tpu]'`",
}


@dataclass(frozen=True, slots=True)
class VisibleDevices:
    """What JAX sees.

    Attributes:
        platform: `cpu`, `gpu` or `tpu`.
        kinds: the kind of each device.
    """

    platform: Platform
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.kinds)} {self.platform.upper()} device{'s' if len(self.kinds) != 1 else ''}"


def visible_devices(environment: Mapping[str, str] = os.environ) -> VisibleDevices:
    """Ask JAX, in another process; where nothing hints at an accelerator the answer is one CPU, at once."""
    if not _hints_at_accelerator(environment):
        return VisibleDevices("cpu", ("cpu",))
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            env={**environment, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            check=True,
        )
        platform, kinds = json.loads(answer.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return VisibleDevices("cpu", ("cpu",))
    platform = {"cuda": "gpu", "rocm": "gpu"}.get(platform, platform)
    return VisibleDevices(platform if platform in ("gpu", "tpu") else "cpu", tuple(kinds))


def resolve_platform(accel: str, seen: VisibleDevices | None = None) -> Platform:
    """The platform to train on, for an `--accel` of `auto`, `cpu`, `gpu` or `tpu`.

    Raises:
        UsageError: the accelerator asked for is not there; says what is, what to use and what to install.
    """
    if accel == "cpu":
        return "cpu"
    seen = seen or visible_devices()
    if accel == "auto":
        return seen.platform
    if accel != seen.platform:
        raise UsageError(
            f"--accel {accel}: JAX sees no {accel.upper()} here, only {seen}; "
            f"use --accel {seen.platform}, or {_ADVICE[accel]}."
        )
    return seen.platform


def _hints_at_accelerator(environment: Mapping[str, str]) -> bool:
    asked = environment.get("JAX_PLATFORMS", "")
    if asked and set(asked.split(",")) == {"cpu"}:
        return False
    devices = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd", "/dev/dxg")
    named = any(name in environment for name in ("TPU_NAME", "TPU_WORKER_ID", "COLAB_TPU_ADDR"))
    return named or any(glob(pattern) for pattern in devices)
