"""Step time with hand-written gradients of projections and depthwise convolutions, compared with automatic gradients.

    python benchmarks/written_gradients.py [--pairs 9] [--json]

Training steps at the `laptop` preset are timed on one core, in one process and in alternating order. The first row is
the Transformer with the gradient of `models/functional/dense.py` and with JAX's. The other rows add depthwise
convolutions over 3 to 31 positions after the Q, K and V projections, with the gradient of
`models/functional/depthwise.py` and with JAX's. The table has the median CPU time of a step with each gradient, the
paired ratio with a 95% interval, the seconds of compilation, and the price: the step time relative to the
Transformer's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, pin_to_last_core
from primer_search.benchmarks.paired_times import paired_ratio, run_interleaved
from primer_search.benchmarks.training_steps import OPTIMIZER, TimedStep, start_training
from primer_search.configs.load import load
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.programs import library
from primer_search.system.allocator import keep_freed_memory
from primer_search.workers.training.steps.flat_model import training_model

KERNELS = (3, 7, 15, 31)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    pin_to_last_core()
    keep_freed_memory()
    config = load("laptop")
    about = hardware("written_gradients.py", arguments)
    programs: dict[str, DNA] = {"Transformer": config.model.library_program("TRANSFORMER")}
    multi_dconv = library.get("TRANSFORMER_MDHA", config.model.unit, config.model.heads)
    programs |= {f"{kernel} positions": _with_kernel(multi_dconv, kernel) for kernel in KERNELS}
    steps: dict[str, TimedStep] = {}
    for name, dna in programs.items():
        model = language_model(build_graph(dna), config.model)
        for gradient, one in (("written", model), ("automatic", _automatic(model, _measured_ops(name)))):
            trained = training_model(one, OPTIMIZER)
            initial = trained.init(np.random.default_rng(0))
            steps[f"{name}, {gradient}"] = start_training(trained, initial, config.trial.batch, 0.5)
    times = run_interleaved({name: step.run for name, step in steps.items()}, options.pairs)
    rows = [_row(name, times, steps) for name in programs]
    if options.json:
        print(json.dumps({"about": about, "rows": rows}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "command"))
    print(f"{'':14} {'step ms':>15} {'ratio':>7}  {'95% interval':16} {'compile s':>12} {'price':>14}")
    for row in rows:
        print(
            f"{row['program']:14} {row['step_ms'][0]:6.2f} -> {row['step_ms'][1]:5.2f} {row['ratio']:7.3f}  "
            f"{row['low']:.3f} to {row['high']:.3f}   {row['compile_s'][0]:4.1f} -> {row['compile_s'][1]:4.1f} "
            f"{row['price'][0]:6.2f} -> {row['price'][1]:4.2f}"
        )


def _with_kernel(dna: DNA, kernel: int) -> DNA:
    """Return the program with depthwise convolutions over `kernel` positions."""
    return replace(
        dna,
        subprograms=tuple(
            replace(
                subprogram,
                instructions=tuple(
                    replace(each, op=f"DCONV_{kernel}X1") if each.op.startswith("DCONV_") else each
                    for each in subprogram.instructions
                ),
            )
            for subprogram in dna.subprograms
        ),
    )


def _measured_ops(name: str) -> str:
    """Return the prefix of the names of the ops whose gradient a row compares."""
    return "CONV_1X1" if name == "Transformer" else "DCONV_"


def _automatic(model: LanguageModel, ops: str) -> LanguageModel:
    """Return a model in which the gradients of some ops are JAX's own."""
    kept = {name: apply for name, apply in model.block.fast_ops.items() if not name.startswith(ops)}
    return replace(model, block=replace(model.block, fast_ops=kept))


def _row(name: str, times: dict[str, np.ndarray], steps: dict[str, TimedStep]) -> dict[str, Any]:
    """Return the row of a program; in each pair of values, the automatic gradient is the first."""
    pair = [f"{name}, automatic", f"{name}, written"]
    ratio = paired_ratio(times[pair[1]], times[pair[0]])
    return {
        "program": name,
        "step_ms": [1000 * float(np.median(times[each])) for each in pair],
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
        "compile_s": [steps[each].compile_seconds for each in pair],
        "price": [paired_ratio(times[each], times["Transformer, written"]).median for each in pair],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="rounds (default 9)")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
