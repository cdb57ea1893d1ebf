"""Is a compiled program as fast as the same block written by hand?

    python benchmarks/step_time.py [--repetitions 30] [--size laptop] [--program TRANSFORMER] [--json]

Times full training steps (language model, loss, gradients, AdamW) of the program TRANSFORMER beside the same language
model with the hand-written block, in one process, in pairs: a repetition times a few steps of each, and which comes
first alternates. A machine's slow minutes so meet both. Printed are the medians and the median of the paired ratios
(program / by hand) with its 95% interval, by bootstrap over the pairs. On a CPU the clock is this process's CPU time,
which a shared machine disturbs least; elsewhere it is the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from primer_search.benchmarks.paired_times import clock, paired_ratio
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.models.reference import REFERENCES, reference_block
from primer_search.primitives import build_graph, library
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.optimizer import initial_state, make_optimizer
from primer_search.workers.steps import StepFunctions, TrainState


@dataclass(frozen=True, slots=True)
class Size:
    """A model, its batch, and how many steps one repetition times."""

    model: ModelConfig
    batch: int
    steps: int


SIZES = {
    "laptop": Size(ModelConfig(layers=2, unit=8, length=128, vocabulary=1024), batch=16, steps=5),
    "6 x 512": Size(ModelConfig(layers=6, unit=64, length=64, vocabulary=1024), batch=4, steps=1),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured at one size: medians, and the paired ratio with its 95% interval."""

    program: str
    size: str
    batch: int
    program_ms: float
    by_hand_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repetitions: int


def main() -> None:
    """Run the benchmark and print a table."""
    arguments = _arguments()
    if jax.default_backend() == "cpu" and hasattr(os, "sched_setaffinity") and not arguments.all_cores:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = [measure(arguments.program, size, arguments.batch, arguments.repetitions) for size in arguments.size]
    about = hardware()
    if arguments.json:
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'program':16} {'size':8} {'batch':>5} {'program ms':>11} {'by hand ms':>11} {'ratio':>6}  95% interval")
    for row in rows:
        interval = f"{row.ratio_low:.3f} to {row.ratio_high:.3f}"
        times = f"{row.program_ms:11.2f} {row.by_hand_ms:11.2f} {row.ratio:6.3f}"
        print(f"{row.program:16} {row.size:8} {row.batch:5} {times}  {interval}")


def measure(program: str, name: str, batch: int | None, repetitions: int) -> Row:
    """Time both models in pairs."""
    size = SIZES[name]
    batch = batch or size.batch
    models = (
        language_model(build_graph(library.get(program, size.model.unit)), size.model),
        LanguageModel(size.model, reference_block(program, size.model.width)),
    )
    compiled, by_hand = (_stepper(model, batch, size.steps) for model in models)
    pairs = []
    for repetition in range(repetitions):
        if repetition % 2:
            slower = by_hand()
            pairs.append((compiled(), slower))
        else:
            pairs.append((compiled(), by_hand()))
    times = 1000 * np.array(pairs)
    ratio = paired_ratio(times[:, 0], times[:, 1])
    medians = np.median(times, axis=0)
    return Row(
        program, name, batch, float(medians[0]), float(medians[1]), ratio.median, ratio.low, ratio.high, repetitions
    )


def hardware() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "clock": "cpu time" if jax.default_backend() == "cpu" else "wall clock",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "optax")},
    }


def _stepper(model: LanguageModel, batch: int, count: int) -> Callable[[], float]:
    """A function that takes `count` steps and says how many seconds one took; it is warm."""
    optimizer = make_optimizer(OptimizerConfig())
    rng = np.random.default_rng(0)
    parameters = model.init(rng)
    state = TrainState(parameters, initial_state(optimizer, parameters))
    functions = StepFunctions(model, optimizer, batch)
    functions.compile_step(state)
    shape = (batch, model.config.length + 1)
    tokens = rng.integers(model.config.vocabulary, size=shape).astype(np.int32)
    now = clock()
    state = jax.device_put(state)

    def run() -> float:
        nonlocal state
        start = now()
        for _ in range(count):
            state, _ = functions.step(state, tokens)
        jax.block_until_ready(state)
        return (now() - start) / count

    run()
    run()
    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", choices=tuple(REFERENCES), default="TRANSFORMER", help="a block written by hand")
    parser.add_argument("--size", choices=tuple(SIZES), nargs="*", default=tuple(SIZES), help="which models to time")
    parser.add_argument("--batch", type=int, help="sequences in a batch (default: the size's)")
    parser.add_argument("--repetitions", type=int, default=30, help="pairs of measurements")
    parser.add_argument("--all-cores", action="store_true", help="do not pin this process to one core (on a CPU)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    main()
