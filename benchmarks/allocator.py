"""Step time of a worker that keeps freed memory (`system/allocator.py`), against one that returns it to the system.

    python benchmarks/allocator.py [--sizes 2x64 6x128] [--pairs 5] [--json]

Each measurement is a fresh process on one core. It compiles the training step of the TRANSFORMER, as in a search, and
takes some steps. Processes with and without the environment of a worker take turns. The table has the median CPU time
of a step, the ratio of the times in pairs with a 95% interval, the page faults of a step, and the peak of the resident
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log, pin_to_last_core
from primer_search.benchmarks.paired_times import paired_ratio
from primer_search.benchmarks.peer_step import SIZES
from primer_search.benchmarks.training_steps import OPTIMIZER, start_training
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.system.allocator import allocator_environment
from primer_search.workers.training.steps.flat_model import training_model

WARM_STEPS, STEPS = 5, 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_measure(options.child)))
        return
    rows = [_compare(size, options.pairs) for size in options.sizes]
    about = hardware("allocator.py", arguments)
    if options.json:
        print(json.dumps({"about": about, "rows": rows}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "command"))
    print(f"{'size':11} {'step ms':>15} {'ratio':>7}  {'95% interval':16} {'faults a step':>15} {'peak MiB':>11}")
    for row in rows:
        returned, kept = row["returned"], row["kept"]
        print(
            f"{row['size']:11} {returned['step_ms']:6.1f} -> {kept['step_ms']:5.1f} {row['ratio']:7.3f}  "
            f"{row['low']:.3f} to {row['high']:.3f}   {returned['faults']:6.0f} -> {kept['faults']:5.0f} "
            f"{returned['peak_mib']:4.0f} -> {kept['peak_mib']:3.0f}"
        )


def _compare(size: str, pairs: int) -> dict[str, Any]:
    """Return the medians of both kinds of processes at one size, and the paired ratio of their step times."""
    environments = {"returned": {}, "kept": allocator_environment(threads=1)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in environments}
    for number in range(pairs):
        for name in reversed(list(environments)) if number % 2 else environments:
            found[name].append(_in_a_process(size, environments[name]))
            log(f"{size} {name}: {found[name][-1]}")
    times = {name: np.array([one["step_ms"] for one in each]) for name, each in found.items()}
    ratio = paired_ratio(times["kept"], times["returned"])
    medians = {
        name: {key: float(np.median([one[key] for one in each])) for key in each[0]} for name, each in found.items()
    }
    return {"size": size, **medians, "ratio": ratio.median, "low": ratio.low, "high": ratio.high}


def _in_a_process(size: str, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", size]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def _measure(size: str) -> dict[str, float]:
    """Return the step time, page faults and peak memory of this process."""
    pin_to_last_core()
    config, batch = SIZES[size].model, SIZES[size].batch
    model = training_model(language_model(build_graph(config.library_program("TRANSFORMER")), config), OPTIMIZER)
    step = start_training(model, model.init(np.random.default_rng(0)), batch, least_seconds=0.0).run
    for _ in range(WARM_STEPS):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = [step() for _ in range(STEPS)]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "step_ms": 1000 * float(np.median(seconds)),
        "faults": (usage.ru_minflt - before) / STEPS,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=("2x64", "6x128"), help="sizes")
    parser.add_argument("--pairs", type=int, default=5, help="processes of each kind (default 5)")
    parser.add_argument("--child", choices=tuple(SIZES), help=argparse.SUPPRESS)
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
