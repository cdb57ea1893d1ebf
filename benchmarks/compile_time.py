"""Compile time and step time of two programs with several of XLA's CPU compiler options.

    python benchmarks/compile_time.py [--rounds 10] [--json]

In each round, the training step of every program is compiled with every variant of the options, and then run a few
times. The variants take turns, so that a slow phase of the machine affects all of them. Times are CPU times of this
process, which is pinned to one core if the system supports it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, pin_to_last_core, processor_name
from primer_search.configs import load
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions

__all__ = ["cached_compile_share"]

VARIANTS: dict[str, dict[str, Any]] = {
    "XLA's defaults": {},
    "older emitters": {"xla_cpu_use_fusion_emitters": False},
    "low optimisation": {"xla_backend_optimization_level": 1},
    "both": {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1},
}
PROGRAMS = ("TRANSFORMER", "PRIMER_EZ")


@dataclass
class Sample:
    """CPU milliseconds of one compilation, and of one training step (mean)."""

    compile_ms: float
    step_ms: float


def main() -> None:
    """Run the benchmark and print a table."""
    arguments = _arguments()
    pin_to_last_core()
    samples: dict[tuple[str, str], list[Sample]] = {}
    for _ in range(arguments.rounds):
        for program in PROGRAMS:
            for variant, options in VARIANTS.items():
                samples.setdefault((program, variant), []).append(_measure(program, options, arguments.steps))
    rows = [_row(program, variant, found) for (program, variant), found in samples.items()]
    about = {"machine": processor_name(), "jax": jax.__version__, "rounds": arguments.rounds}
    if arguments.json:
        print(json.dumps({"about": about, "rows": rows}))
        return
    print(about)
    print(f"{'program':14} {'variant':18} {'compile ms':>22} {'step ms':>22}")
    for row in rows:
        print(f"{row['program']:14} {row['variant']:18} {row['compile']:>22} {row['step']:>22}")


def cached_compile_share() -> float:
    """Return the CPU time to read the baseline's compiled step from the cache, relative to that of compiling it."""
    config = load("laptop")
    graph = build_graph(library.get("TRANSFORMER", config.model.unit, config.model.heads))
    model, optimizer = language_model(graph, config.model), make_optimizer(config.optimizer)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        for _ in range(2):
            functions = StepFunctions(model, optimizer, config.trial.batch)
            state = functions.initial_state(model.init(np.random.default_rng(0)))
            start = time.process_time()
            functions.compile_step(state)
            seconds.append(time.process_time() - start)
            jax.clear_caches()
        jax.config.update("jax_compilation_cache_dir", None)
    return seconds[1] / seconds[0]


def _measure(program: str, options: dict[str, Any], count: int) -> Sample:
    config = load("laptop")
    model = language_model(build_graph(library.get(program, config.model.unit)), config.model)
    optimizer = make_optimizer(config.optimizer)
    functions = StepFunctions(model, optimizer, config.trial.batch, compiler_options=options)
    state = functions.initial_state(model.init(np.random.default_rng(0)))
    start = time.process_time()
    functions.compile_step(state)
    compiled = time.process_time()
    shape = (config.trial.batch, config.model.length + 1)
    tokens = np.random.default_rng(0).integers(0, config.model.vocabulary, shape).astype(np.int32)
    state, result = functions.step(jax.device_put(state), tokens)
    jax.block_until_ready(result)
    warm = time.process_time()
    for _ in range(count):
        state, result = functions.step(state, tokens)
        jax.block_until_ready(result)
    return Sample(1000 * (compiled - start), 1000 * (time.process_time() - warm) / count)


def _row(program: str, variant: str, found: list[Sample]) -> dict[str, Any]:
    return {
        "program": program,
        "variant": variant,
        "compile": _summary([sample.compile_ms for sample in found]),
        "step": _summary([sample.step_ms for sample in found]),
    }


def _summary(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def _arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=10, help="number of compilations of each program with each variant"
    )
    parser.add_argument("--steps", type=int, default=20, help="number of training steps after each compilation")
    add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
