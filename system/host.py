"""Host resources: cores and memory that workers may use, pinning of processes to cores, process trees.

XLA takes the size of its thread pools from the CPU affinity of the process, so a worker must be pinned before JAX
creates its CPU client (Linux only). Limits of the container (cgroups) are respected, because more workers than granted
cores would slow each other down.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = [
    "CAN_PIN",
    "kill_process_tree",
    "machine_identity",
    "machine_memory_bytes",
    "pick_cores",
    "pin_process",
    "process_tree",
    "processor_digest",
    "resident_bytes",
    "usable_core_count",
    "usable_cores",
]

CAN_PIN = hasattr(os, "sched_setaffinity")
"""Whether this system can pin a process to cores (macOS cannot)."""

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> tuple[int, ...]:
    """Return the cores this process may be scheduled on."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def usable_core_count() -> int:
    """Return the number of cores in the process's affinity, at most the CPU quota of the container."""
    quota = _cpu_quota()
    return len(usable_cores()) if quota is None else max(1, min(len(usable_cores()), int(quota)))


def machine_memory_bytes() -> int:
    """Return the memory of the machine, or the container's limit if that is lower."""
    limits = [_read_integer(path) for path in (_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit)])


def machine_identity() -> str:
    """Return an identifier of the namespace of process ids, in which processes can signal each other by their ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def processor_digest() -> str:
    """Return a hash of the processor's model and instruction sets, as far as known; 8 hexadecimal digits."""
    described = f"{platform.machine()} {platform.processor()}"
    with suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
        wanted = ("model name", "flags", "Features")  # Features: on ARM
        described += "".join(line for line in first.splitlines() if line.startswith(wanted))
    return hashlib.sha256(described.encode()).hexdigest()[:8]


def pick_cores(available: Sequence[int], taken: Iterable[int], count: int) -> tuple[int, ...]:
    """Return the `count` cores with the fewest workers, lowest number first.

    Args:
        available: cores of the machine.
        taken: cores of the other workers; a core is repeated for each worker on it.
        count: number of cores to pick.
    """
    taken = list(taken)
    return tuple(sorted(sorted(available, key=lambda core: (taken.count(core), core))[:count]))


def pin_process(cores: Iterable[int]) -> None:
    """Pin all threads of this process to these cores; later threads inherit the affinity."""
    if sys.platform != "linux":
        return
    wanted = set(cores)
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # the thread has ended since the listing
            os.sched_setaffinity(int(thread), wanted)


def resident_bytes(process: psutil.Process | None = None) -> int:
    """Return the resident memory of a process (by default this one); 0 if it has ended."""
    try:
        return (process or psutil.Process()).memory_info().rss
    except psutil.Error:
        return 0


def descendants_memory(ancestors: Set[int]) -> Counter[int]:
    """Return the resident bytes of the descendants of each of these processes, by process id of the ancestor."""
    processes = {process.pid: process for process in psutil.process_iter(["ppid"])}
    held: Counter[int] = Counter()
    for process in processes.values():
        seen, parent = {process.pid}, process
        while (parent_id := parent.info["ppid"]) in processes and parent_id not in seen:
            if parent_id in ancestors:
                held[parent_id] += resident_bytes(process)
                break
            seen.add(parent_id)
            parent = processes[parent_id]
    return held


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill_process_tree(process: psutil.Process) -> list[psutil.Process]:
    """Send SIGKILL to a process and its descendants, and return them; a process that reuses an id is not killed."""
    tree = process_tree([process])
    for member in tree:
        with suppress(psutil.Error):
            member.kill()
    return tree


def process_tree(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return these processes and all their descendants."""
    tree = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            tree += process.children(recursive=True)
    return tree


def _cpu_quota() -> float | None:
    """Return the CPU quota of the container in cores, or None if it has no limit."""
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else None
    quota = _read_integer(_CGROUP / "cpu/cpu.cfs_quota_us")
    period = _read_integer(_CGROUP / "cpu/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _read_integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or it holds `max`
        return None
