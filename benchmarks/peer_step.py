"""Step and compilation times of training, compared with those of models that a user would write instead.

    python benchmarks/peer_step.py [--sizes 2x64 6x128 6x512 2x128-long] [--pairs 13] [--nanodo FOLDER] [--json FILE]

It times full training steps (language model, loss, gradients, AdamW with clipped gradients, one jitted function) of the
library's TRANSFORMER and PRIMER_EZ, as in a search; of a decoder made of Flax NNX's own modules (`plain_decoder`); and
of nanodo (github.com/google-deepmind/nanodo) if `--nanodo` names a checkout. All have the same sizes, batch, data type
and optimizer. The peers have a copy of each layer, not a loop. Rows with "by layer" are the step of a brief training,
compiled layer by layer (`layerwise_step`) in a worker that has already compiled another program. Each round times every
model once, in alternating order. Ratios are relative to the fastest peer: the median of paired ratios, and its 95%
interval. The column FLOPs has the FLOPs of a program, counted by the op table, relative to the TRANSFORMER's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from primer_search.benchmarks.options_and_hardware import add_pairs, benchmark_parser, hardware, log, pin_to_one_core
from primer_search.benchmarks.paired_times import Ratio, Run, clock, paired_ratio, run_interleaved, timed_run
from primer_search.benchmarks.plain_decoder import PlainDecoder
from primer_search.benchmarks.training_steps import OPTIMIZER, Size, TimedStep, random_tokens, start_training
from primer_search.models import ModelConfig
from primer_search.models.cost import model_cost
from primer_search.models.language_model import language_model, negative_log_likelihood
from primer_search.primitives import build_graph
from primer_search.primitives.errors import UsageError
from primer_search.workers.training.steps.flat_model import FlatModel, training_model
from primer_search.workers.training.steps.optimizer import make_optimizer

PROGRAMS = ("TRANSFORMER", "PRIMER_EZ")
BY_LAYER = "by layer"
MIN_SECONDS = 0.2
"""Shortest run; a run takes several steps if one is shorter."""

Logits = Callable[[Any, jax.Array], jax.Array]
"""Function of parameters and tokens."""


SIZES = {
    "tiny": Size(ModelConfig(layers=1, unit=1, length=8, vocabulary=257), batch=2),
    "2x64": Size(ModelConfig(layers=2, unit=8, length=64), batch=16),
    "6x128": Size(ModelConfig(layers=6, unit=16, length=128), batch=8),
    "6x512": Size(ModelConfig(layers=6, unit=64, length=64), batch=4),
    "2x128-long": Size(ModelConfig(layers=2, unit=16, length=1024), batch=2),
    "12x128": Size(ModelConfig(layers=12, unit=16, length=128), batch=8),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one size: CPU seconds of compilation, and step time, each also relative to the fastest peer's."""

    size: str
    model: str
    compile_seconds: float
    compile_ratio: float
    step_milliseconds: float
    step_ratio: Ratio
    flops_ratio: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    if not options.all_cores:
        pin_to_one_core()
    rows: list[Row] = []
    for name in options.sizes:
        rows += measure(name, SIZES[name], options.pairs, options.nanodo)
        log("\n".join(_line(row) for row in rows if row.size == name))
    about = hardware("peer_step.py", arguments)
    if options.json:
        document = {"about": about, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_table(about, rows)))


def measure(name: str, size: Size, pairs: int, nanodo: Path | None) -> list[Row]:
    """Return the rows of all models at one size."""
    starts: dict[str, Callable[[], tuple[Run, float]]] = {"Flax NNX": lambda: _peer(size, *_plain_decoder(size.model))}
    if nanodo is not None:
        starts["nanodo"] = lambda: _peer(size, *_nanodo(size.model, nanodo))
    peers = tuple(starts)
    for program in PROGRAMS:
        starts[program] = lambda program=program: _compiled(size, program)
    for program in PROGRAMS:
        starts[f"{program} {BY_LAYER}"] = lambda program=program: _compiled(size, program, by_layer=True)
    runs, compiled = {}, {}
    for model, start in starts.items():
        runs[model], compiled[model] = start()
    times = run_interleaved(runs, pairs)
    fastest = min(peers, key=lambda peer: float(np.median(times[peer])))
    counted = {program: _flops(size.model, program) for program in PROGRAMS}
    flops = {name: counted[name.removesuffix(f" {BY_LAYER}")] for name in starts if name not in peers}
    return [
        Row(
            name,
            model,
            compiled[model],
            compiled[model] / min(compiled[peer] for peer in peers),
            1000 * float(np.median(times[model])),
            paired_ratio(times[model], times[fastest]),
            flops[model] / counted[PROGRAMS[0]] if model in flops else None,
        )
        for model in starts
    ]


def _compiled(size: Size, program: str, by_layer: bool = False) -> tuple[Run, float]:
    """Return a run of the search's own training step, and the CPU seconds of its compilation."""
    if by_layer:  # another program first compiles the shared parts
        _start(size, next(other for other in PROGRAMS if other != program), by_layer)
    started = _start(size, program, by_layer)
    return started.run, started.compile_seconds


def _start(size: Size, program: str, by_layer: bool) -> TimedStep:
    model = language_model(build_graph(size.model.library_program(program)), size.model)
    trained = FlatModel(model) if by_layer else training_model(model, OPTIMIZER)
    return start_training(trained, trained.init(np.random.default_rng(0)), size.batch, MIN_SECONDS, by_layer=by_layer)


def _peer(size: Size, parameters: Any, logits: Logits) -> tuple[Run, float]:
    """Return a run of a peer's training step, and the CPU seconds of its compilation."""
    optimizer = make_optimizer(OPTIMIZER)

    def train(parameters: Any, state: Any, tokens: jax.Array) -> tuple[Any, Any, jax.Array]:
        def loss(parameters: Any) -> jax.Array:
            return jnp.mean(negative_log_likelihood(logits(parameters, tokens[:, :-1]), tokens[:, 1:]))

        value, gradients = jax.value_and_grad(loss)(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    state, tokens = optimizer.init(parameters), random_tokens(size.model, size.batch)
    lowered_from = jax.jit(train, donate_argnums=(0, 1))
    now = clock()
    start = now()
    compiled = lowered_from.lower(parameters, state, tokens).compile()
    seconds = now() - start

    def step() -> Any:
        nonlocal parameters, state
        parameters, state, value = compiled(parameters, state, tokens)
        return value

    return timed_run(step, MIN_SECONDS), seconds


def _plain_decoder(config: ModelConfig) -> tuple[Any, Logits]:
    graphdef, parameters = nnx.split(PlainDecoder(config, nnx.Rngs(0)), nnx.Param)[:2]
    return parameters, lambda parameters, tokens: nnx.merge(graphdef, parameters)(tokens)


def _nanodo(config: ModelConfig, folder: Path) -> tuple[Any, Logits]:
    sys.path.insert(0, str(folder))
    try:
        nanodo = importlib.import_module("nanodo.model")
    except ImportError as error:
        raise UsageError(f"--nanodo {folder}: no checkout of nanodo can be imported from there ({error})") from error
    shape = {"D": config.width, "F": 4 * config.width, "H": config.heads, "L": config.length}
    model = nanodo.TransformerDo(nanodo.DoConfig(**shape, N=config.layers, V=config.vocabulary, fsdp_enabled=False))
    parameters = model.init(jax.random.key(0), jnp.zeros((1, config.length), jnp.int32))["params"]
    return parameters, lambda parameters, tokens: model.apply({"params": parameters}, tokens)


def _flops(config: ModelConfig, program: str) -> float:
    return model_cost(config.library_program(program), config, config.unit)["flops"]


def _table(about: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    shapes = [
        f"{name}: {size.model.layers} layers, width {size.model.width}, {size.batch} x {size.model.length} tokens"
        for name, size in SIZES.items()
        if any(row.size == name for row in rows)
    ]
    columns = f"{'compile s':>9} {'/ peer':>7} {'step ms':>9} {'/ peer':>7}  {'95% interval':16} FLOPs"
    return [
        f"$ {about['command']}",
        ", ".join(f"{key} {value}" for key, value in about.items() if key != "command"),
        *shapes,
        f"{'size':11} {'model':20} {columns}",
        *(_line(row) for row in rows),
    ]


def _line(row: Row) -> str:
    interval = f"{row.step_ratio.low:.3f} to {row.step_ratio.high:.3f}"
    flops = "" if row.flops_ratio is None else f"{row.flops_ratio:.3f}"
    return (
        f"{row.size:11} {row.model:20} {row.compile_seconds:9.1f} {row.compile_ratio:7.2f} "
        f"{row.step_milliseconds:9.2f} {row.step_ratio.median:7.3f}  {interval:16} {flops}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--sizes", nargs="+", choices=tuple(SIZES), default=("2x64", "6x128", "6x512", "2x128-long"), help="sizes"
    )
    parser.add_argument("--nanodo", type=Path, metavar="FOLDER", help="checkout of nanodo to compare with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    add_pairs(parser, 13)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
