"""Training speed of an exported block, compared with the same block written by hand.

    python benchmarks/exported_step.py [--size laptop|512] [--layers N] [--pairs 30] [--json FILE]

It times full training steps (language model, loss, gradients, AdamW, one jitted function) of one language model with
five versions of PRIMER_EZ that have the same parameters: compiled (as in `DNABlock`); exported to a file and imported
from it, in Flax NNX and in Linen; and written by hand (`PrimerEZBlock`), in Flax NNX and in Linen. Runs are interleaved
in one process. The table has medians, and the median of the paired ratios to the hand-written block with its 95%
interval. "Same" means that the interval contains 1.00 or is below 1.02. It is an error if the losses of a block differ
from those of the compiled one.

Modules get their parameters while JAX traces, so steps of NNX and Linen are called in the same way.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from primer_search.benchmarks.code_size import lines_used, logical_lines
from primer_search.benchmarks.options_and_hardware import add_pairs, benchmark_parser, hardware, pin_to_one_core
from primer_search.benchmarks.paired_times import Ratio, paired_ratio, run_interleaved
from primer_search.benchmarks.training_steps import Size, start_training
from primer_search.models import LanguageModel, ModelConfig, compile_block, linen
from primer_search.models import nnx as nnx_blocks
from primer_search.models.export import API, ParameterPlacement, write_export
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.tests.support.hand_written_blocks import from_program

PROGRAM = "PRIMER_EZ"
COMPILED = "compiled"
MODELS = Path(__file__).parents[1] / "models"
BY_HAND = {"nnx": "nnx/blocks.py", "linen": "linen/blocks.py"}

SAME_BELOW = 1.02
"""Upper bound of an interval that counts as a ratio of 1."""

LOSS_TOLERANCE = 1e-4
"""Largest relative difference of a token's loss in the first step."""

MIN_SECONDS = 0.05
"""Shortest run; a run takes several steps if one is shorter."""

Arrays = Mapping[str, Any]


SIZES = {
    "tiny": Size(ModelConfig(layers=1, unit=1, length=8, vocabulary=257), batch=2),
    "laptop": Size(ModelConfig(layers=2, unit=8, length=128, vocabulary=1024), batch=16),
    "512": Size(ModelConfig(layers=6, unit=64, length=64, vocabulary=1024), batch=4),
}


@dataclass(frozen=True, slots=True)
class ModuleBlock:
    """Flax module as one block of a `LanguageModel`.

    Attributes:
        apply: function that maps parameters (by dotted path) and the input to the output.
        convert: function that maps the compiled program's parameters to those of the module.
    """

    apply: Callable[[Arrays, jax.Array], jax.Array]
    convert: Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Row:
    """Median time of one block's steps, and their ratio to those of the block written by hand."""

    block: str
    milliseconds: float
    ratio: Ratio | None
    same: bool | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    if not options.all_cores:
        pin_to_one_core()
    size = SIZES[options.size]
    if options.layers is not None:
        size = replace(size, model=replace(size.model, layers=options.layers))
    with tempfile.TemporaryDirectory() as folder:
        files = {api: Path(folder) / f"{api}_block.py" for api in options.api}
        rows = measure(size, files, options.pairs)
        lines = {f"exported, {api}": logical_lines(file) for api, file in files.items()}
    for api, file in BY_HAND.items():
        lines[f"by hand, {api}"] = lines_used(MODELS / file, "PrimerEZBlock")
    about = hardware("exported_step.py", arguments)
    if options.json:
        document = {"about": about, "size": asdict(size), "rows": [asdict(row) for row in rows], "lines": lines}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_table(about, size, rows, lines)))


def measure(size: Size, files: Mapping[API, Path], pairs: int) -> list[Row]:
    """Export the program to files, and time the exported blocks, the hand-written blocks and the compiled program."""
    blocks = _blocks(size, files)
    compiled = compile_block(build_graph(library.get(PROGRAM, size.model.unit)), size.model.unit)
    parameters = LanguageModel(size.model, compiled).init(np.random.default_rng(0))
    steps = {COMPILED: start_training(LanguageModel(size.model, compiled), parameters, size.batch, MIN_SECONDS)}
    for name, block in blocks.items():
        own = parameters | {"blocks": _converted(parameters["blocks"], block, size.model.layers)}
        steps[name] = start_training(LanguageModel(size.model, block), own, size.batch, MIN_SECONDS)
        expected = steps[COMPILED].first_losses
        np.testing.assert_allclose(steps[name].first_losses, expected, rtol=LOSS_TOLERANCE, err_msg=name)
    times = run_interleaved({name: step.run for name, step in steps.items()}, pairs)
    return [_row(name, times) for name in steps]


def _blocks(size: Size, files: Mapping[API, Path]) -> dict[str, ModuleBlock]:
    """Return the Flax modules; the hand-written one and the exported one of an API follow each other."""
    unit, width = size.model.unit, size.model.width
    blocks = {}
    for api, file in files.items():
        exported = write_export(
            file, library.get(PROGRAM, unit), name="ExportedBlock", unit=unit, length=size.model.length, api=api
        )
        imported = _imported(file).ExportedBlock
        if api == "nnx":
            blocks["by hand, nnx"] = _nnx_block(lambda: nnx_blocks.PrimerEZBlock(width, rngs=nnx.Rngs(0)), _to_hand)
            blocks["exported, nnx"] = _nnx_block(
                lambda make=imported: make(width, rngs=nnx.Rngs(0)), _to_exported(exported.placements)
            )
        else:
            blocks["by hand, linen"] = _linen_block(linen.PrimerEZBlock(), _to_hand)
            blocks["exported, linen"] = _linen_block(imported(width), _to_exported(exported.placements))
    return blocks


def _imported(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nnx_block(make: Callable[[], nnx.Module], convert: Callable[[Arrays], Arrays]) -> ModuleBlock:
    graphdef, state = nnx.split(nnx.eval_shape(make))
    leaves = {".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(state)}

    def apply(parameters: Arrays, x: jax.Array) -> jax.Array:
        flat = [(path, leaf.replace(parameters[name])) for name, (path, leaf) in leaves.items()]
        return nnx.merge(graphdef, nnx.from_flat_state(flat))(x)

    return ModuleBlock(apply, convert)


def _linen_block(module: Any, convert: Callable[[Arrays], Arrays]) -> ModuleBlock:
    def apply(parameters: Arrays, x: jax.Array) -> jax.Array:
        return module.apply({"params": unflatten_dict(dict(parameters), sep=".")}, x)

    return ModuleBlock(apply, convert)


def _to_hand(parameters: Arrays) -> Arrays:
    return flatten_dict(from_program(PROGRAM, parameters), sep=".")


def _to_exported(placements: Sequence[ParameterPlacement]) -> Callable[[Arrays], Arrays]:
    return lambda parameters: {".".join(one.path): one.to_module_layout(parameters[one.name]) for one in placements}


def _converted(blocks: Arrays, block: ModuleBlock, layers: int) -> Arrays:
    """Return the parameters of all layers with the block's names and shapes."""
    each = [block.convert({name: array[layer] for name, array in blocks.items()}) for layer in range(layers)]
    return {name: np.stack([layer[name] for layer in each]) for name in each[0]}


def _row(name: str, times: Mapping[str, np.ndarray]) -> Row:
    milliseconds = 1000 * float(np.median(times[name]))
    if name.startswith("by hand"):
        return Row(name, milliseconds, None, None)
    by_hand = f"by hand, {name.rpartition(' ')[2]}"  # of the same API; for the compiled program, the first
    others = times.get(by_hand, next(seconds for other, seconds in times.items() if other.startswith("by hand")))
    ratio = paired_ratio(times[name], others)
    return Row(name, milliseconds, ratio, ratio.low <= 1 <= ratio.high or ratio.high < SAME_BELOW)


def _table(about: Mapping[str, Any], size: Size, rows: Sequence[Row], lines: Mapping[str, int]) -> list[str]:
    model = size.model
    table = [
        f"$ {about['command']}",
        ", ".join(f"{key} {value}" for key, value in about.items() if key != "command"),
        f"{PROGRAM}, {model.layers} layers, width {model.width}; {size.batch} sequences of {model.length} tokens",
        f"{'block':16} {'step ms':>9} {'/ by hand':>10}  {'95% interval':16} same",
    ]
    for row in rows:
        line = f"{row.block:16} {row.milliseconds:9.2f}"
        if row.ratio is not None:
            interval = f"{row.ratio.low:.3f} to {row.ratio.high:.3f}"
            line += f" {row.ratio.median:10.3f}  {interval:16} {'yes' if row.same else 'no'}"
        table.append(line)
    counted = ", ".join(f"{count} {name}" for name, count in lines.items())
    return [*table, f"logical lines: {counted} (by hand: everything that the class uses, without imports)"]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="laptop", help="size of the model")
    parser.add_argument("--layers", type=int, help="blocks in the model (default: the size's)")
    parser.add_argument(
        "--api", choices=("nnx", "linen"), nargs="*", default=("nnx", "linen"), help="APIs (default: both)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    add_pairs(parser, 30)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
