"""Command-line options that benchmarks share, and the description of the hardware in their results."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primer_search.system.allocator import keep_freed_memory
from primer_search.system.host import CAN_PIN, pin_process, usable_cores

__all__ = [
    "add_json",
    "add_pairs",
    "benchmark_parser",
    "hardware",
    "log",
    "pin_to_last_core",
    "pin_to_one_core",
    "processor_name",
]


def benchmark_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the module's docstring as help."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option `--json`."""
    parser.add_argument("--json", action="store_true", help="print only one JSON object")


def add_pairs(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the options of a benchmark that compares alternatives in pairs."""
    parser.add_argument("--pairs", type=int, default=default, help=f"rounds of measurements (default {default})")
    parser.add_argument("--all-cores", action="store_true", help="do not pin this process to one core (on a CPU)")


def log(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def pin_to_one_core() -> None:
    """Run this process like a worker: it keeps freed memory and, if it computes on a CPU, uses one core."""
    import jax

    keep_freed_memory()
    if jax.default_backend() == "cpu":
        pin_to_last_core()


def pin_to_last_core() -> int | None:
    """Pin this process to its last core, like a worker, and return the core; None if the system cannot."""
    if not CAN_PIN:
        return None
    core = usable_cores()[-1]
    pin_process((core,))
    return core


def hardware(benchmark: str, arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the command of a measurement, its hardware and versions.

    Args:
        benchmark: name of the benchmark's file.
        arguments: command-line arguments; None means those of this process.
    """
    import jax

    given = sys.argv[1:] if arguments is None else arguments
    on_cpu = jax.default_backend() == "cpu"
    return {
        "command": shlex.join(["python", f"benchmarks/{benchmark}", *given]),
        "device": processor_name() if on_cpu else jax.devices()[0].device_kind,
        "cores": len(usable_cores()),
        "clock": "cpu time" if on_cpu else "wall clock",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax")},
    }


def processor_name() -> str:
    """Return the processor's name; where the system does not know it, the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
