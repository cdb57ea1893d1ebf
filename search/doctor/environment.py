"""Checks of the environment: Python, JAX, Ray, the data cache, disk, memory and clocks."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import psutil

from ...system.error_text import first_line, last_line
from ...system.host import machine_memory_bytes, usable_core_count
from ...workers.config import WorkersConfig
from ...workers.data.dataset import default_cache_dir
from ...workers.devices.compilation_cache import compilation_cache_folder
from ...workers.devices.discovery import visible_devices

__all__ = ["Finding", "clock_finding", "environment_findings"]

MIN_DISK_BYTES = 1 << 30
MIN_MEMORY_BYTES = 1 << 30
"""Least free disk and memory for a run of the laptop preset."""

COARSE_CLOCK_SECONDS = 0.02
"""Largest resolution of a clock that can time a training step."""

RAY_SECONDS = 60
"""Longest time for the import of Ray."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        group: group of the check.
        check: name of the check.
        verdict: `failed`, `warning`, or for a passed check `ok`, `refused` or `accepted`.
        reason: finding, in a few words or a sentence.
    """

    group: str
    check: str
    verdict: str
    reason: str

    @property
    def failed(self) -> bool:
        """Whether the check failed, so that results are not reliable."""
        return self.verdict == "failed"


def environment_findings() -> Iterator[Finding]:
    """Check the environment. JAX is imported here, Ray in a separate process."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield _finding("Python", sys.version_info >= (3, 11), f"{python} on {platform.system()} {platform.machine()}")
    yield _jax()
    yield _ray()
    yield _cache(default_cache_dir())
    yield _compiled(compilation_cache_folder().parent)
    yield _disk(default_cache_dir())
    yield _memory()
    for name, clock in (
        ("wall clock", time.perf_counter),
        ("monotonic clock", time.monotonic),
        ("CPU clock", time.process_time),
    ):
        yield clock_finding(name, clock)


def clock_finding(name: str, clock: Callable[[], float]) -> Finding:
    """Check that a clock advances, never goes back, and has a resolution that can time a training step.

    Args:
        name: name of the check.
        clock: function that returns seconds.
    """
    readings = [clock()]
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        readings.append(clock())
    steps = [later - earlier for earlier, later in pairwise(readings)]
    if min(steps, default=0.0) < 0:
        return _finding(name, False, "it went backwards: budgets and step times cannot be trusted")
    forward = [step for step in steps if step > 0]
    if not forward:
        return _finding(name, False, "it stood still for a tenth of a second of work")
    resolution = min(forward)
    verdict = "ok" if resolution <= COARSE_CLOCK_SECONDS else "warning"
    return Finding("environment", name, verdict, f"monotonic, resolution {resolution:.1g} s")


def _jax() -> Finding:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        return _finding("JAX", False, f"{jax.__version__}, and finds no device: {first_line(str(error))}")
    kinds = sorted({f"{device.platform} ({device.device_kind})" for device in devices})
    found = f"{jax.__version__}, {len(devices)} device{'s'[: len(devices) > 1]}: {', '.join(kinds)}"
    if trouble := visible_devices().trouble:
        return Finding("environment", "JAX", "warning", f"{found}; {trouble}")
    return _finding("JAX", True, found)


def _ray() -> Finding:
    """Import Ray in another process, because the import takes a second and starts threads."""
    try:
        installed = version("ray")
    except PackageNotFoundError:
        return _finding("Ray", False, "it is not installed; only --executor inline works")
    try:
        subprocess.run([sys.executable, "-c", "import ray"], capture_output=True, timeout=RAY_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        last = last_line(error.stderr.decode(errors="replace"))
        return _finding("Ray", False, f"{installed} does not import: {last}")
    except subprocess.TimeoutExpired:
        return _finding("Ray", False, f"{installed} does not import within {RAY_SECONDS} s")
    return _finding("Ray", True, f"{installed} imports")


def _cache(cache: Path) -> Finding:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".doctor.") as file:
            file.write(b"x")
    except OSError as error:
        return _finding("data cache", False, f"{cache} cannot be written ({error.strerror}): set PRIMER_SEARCH_CACHE")
    return _finding("data cache", True, f"{cache} can be written")


def _compiled(cache: Path) -> Finding:
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    bound = f"each folder is limited by workers.compiled_mib ({WorkersConfig().compiled_mib} by default)"
    return _finding("compiled programs", True, f"{size / 2**20:.1f} MiB in {cache}; {bound}")


def _disk(cache: Path) -> Finding:
    """Check the free disk for data and, in the current folder, for runs."""
    places = {"data": cache, "runs": Path.cwd()}
    free = {name: shutil.disk_usage(_existing(path)).free for name, path in places.items()}
    words = ", ".join(f"{size / 1e9:.1f} GB for {name}" for name, size in free.items())
    return Finding("environment", "free disk", _at_least(min(free.values()), MIN_DISK_BYTES), words)


def _memory() -> Finding:
    total = machine_memory_bytes()
    free = min(psutil.virtual_memory().available, total)
    words = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, {usable_core_count()} cores to use"
    return Finding("environment", "memory", _at_least(free, MIN_MEMORY_BYTES), words)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _at_least(size: int, least: int) -> str:
    return "ok" if size >= least else "warning"


def _finding(check: str, ok: bool, reason: str) -> Finding:
    return Finding("environment", check, "ok" if ok else "failed", reason)
