"""Compilation time and step time of the training step that is compiled layer by layer, compared with the whole step.

    python benchmarks/layerwise_step.py [--sizes laptop 6x128] [--programs TRANSFORMER block.json] [--pairs 9] [--json]

Both are measured on one core, in one process, in turns. Compilation is that of step and evaluation: the median CPU
seconds of some compilations after one that is not timed. Layer by layer, there are two numbers: for the first model of
a worker, and for each further model of the same shape, which shares the programs outside the block. The whole step has
a copy of each layer, or a loop if there are more than eight layers. The last column is the number of steps after which
the whole step is faster overall, with compilation, for a further model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import (
    add_json,
    add_pairs,
    benchmark_parser,
    hardware,
    pin_to_one_core,
)
from primer_search.benchmarks.paired_times import Ratio, Run, clock, paired_ratio, run_interleaved, timed_run
from primer_search.benchmarks.peer_step import SIZES
from primer_search.benchmarks.training_steps import OPTIMIZER, Size, random_tokens
from primer_search.configs.load import load
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.workers.training.steps.flat_model import FlatModel
from primer_search.workers.training.steps.layerwise_step import clear_shared_functions
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions

OPTIMIZER_OF_SEARCH = replace(OPTIMIZER, averaging=8.0)
COMPILATIONS = 3
LAPTOP = load("laptop")
ALL_SIZES = {"laptop": Size(LAPTOP.model, LAPTOP.trial.batch), **SIZES}


@dataclass(frozen=True, slots=True)
class Row:
    """One program at one size: CPU seconds of compilation, and milliseconds of a step."""

    size: str
    program: str
    compile_whole: float
    compile_first: float
    compile_further: float
    step_whole: float
    step_layerwise: float
    ratio: Ratio

    @property
    def break_even(self) -> float:
        """Number of steps after which the whole step is faster, with compilation; infinite if it never is."""
        slower = self.step_layerwise - self.step_whole
        return 1000 * (self.compile_whole - self.compile_further) / slower if slower > 0 else float("inf")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    if not options.all_cores:
        pin_to_one_core()
    about = hardware("layerwise_step.py", arguments)
    rows = [measure(size, program, options.pairs) for size in options.sizes for program in options.programs]
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) | {"break_even": row.break_even} for row in rows]}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "command"))
    print(f"{'':22} {'compilation s':>22}   {'step ms':>15}")
    print(f"{'size':10} {'program':14} whole  first further   whole layers  ratio  95% interval    break-even")
    for row in rows:
        print(
            f"{row.size:10} {row.program:14} {row.compile_whole:5.2f} {row.compile_first:6.2f} "
            f"{row.compile_further:7.2f} {row.step_whole:7.2f} {row.step_layerwise:6.2f} {row.ratio.median:6.3f}  "
            f"{row.ratio.low:.3f} to {row.ratio.high:.3f} {row.break_even:10.0f}"
        )


def measure(name: str, program: str, pairs: int) -> Row:
    """Return the row of a program, named as in the library or by the file of its JSON, at one size."""
    size = ALL_SIZES[name]
    path = Path(program)
    dna = dna_from_json(path.read_text()) if path.suffix == ".json" else size.model.library_program(program)
    model = FlatModel(language_model(build_graph(dna), size.model))
    whole, layers, _ = _compile_in_turn(model, size)
    compilations = [_compile_in_turn(model, size)[2] for _ in range(COMPILATIONS)]
    compile_whole, compile_first, compile_further = np.median(compilations, axis=0).tolist()
    times = run_interleaved({"whole": _run(whole, model, size), "layers": _run(layers, model, size)}, pairs)
    ratio = paired_ratio(times["layers"], times["whole"])
    step_whole, step_layers = (1000 * float(np.median(times[each])) for each in ("whole", "layers"))
    return Row(name, path.stem, compile_whole, compile_first, compile_further, step_whole, step_layers, ratio)


def _compile_in_turn(model: FlatModel, size: Size) -> tuple[StepFunctions, StepFunctions, tuple[float, float, float]]:
    """Return the whole step, the step layer by layer, and CPU seconds of compilation: whole, first, further."""
    whole, compile_whole = _compile(model, size, by_layer=False)
    clear_shared_functions()
    _, compile_first = _compile(model, size, by_layer=True)
    layers, compile_further = _compile(model, size, by_layer=True)
    return whole, layers, (compile_whole, compile_first, compile_further)


def _compile(model: FlatModel, size: Size, by_layer: bool) -> tuple[StepFunctions, float]:
    """Return compiled step functions, and the CPU seconds of the compilation of step and evaluation."""
    optimizer, averaging = make_optimizer(OPTIMIZER_OF_SEARCH), OPTIMIZER_OF_SEARCH.averaging
    functions = StepFunctions(model, optimizer, size.batch, averaging, by_layer=by_layer)
    state, now = functions.initial_state(model.init(np.random.default_rng(0))), clock()
    start = now()
    functions.compile_step(state)
    functions.compile_evaluation(state)
    return functions, now() - start


def _run(functions: StepFunctions, model: FlatModel, size: Size) -> Run:
    """Return a run of steps."""
    tokens = random_tokens(size.model, size.batch)
    state = functions.place(functions.initial_state(model.init(np.random.default_rng(0))))

    def step() -> Any:
        nonlocal state
        state, result = functions.step(state, tokens)
        return result

    return timed_run(step, 0.3)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=tuple(ALL_SIZES), default=["laptop", "6x128"], help="sizes")
    parser.add_argument("--programs", nargs="+", default=["TRANSFORMER", "PRIMER_EZ"], help="names, or files of JSON")
    add_pairs(parser, 9)
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
