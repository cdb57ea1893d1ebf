"""Cost of decoding with a block: bytes of its cache, and the time of a step relative to the Transformer's.

    python benchmarks/decode_cost.py [PROGRAM|FILE.json ...] [--width 512] [--contexts 64 512 2048] [--batches 1 8]
                                     [--layers 4] [--pairs 20] [--write]

It measures each given program, or all programs of the library. It shows the bytes that one block caches for each
position, and those for each sequence (`cache_size`, exact). It also shows the time of one block for one new token, at
the last position of its cache. A program is measured as a `DNABlock` and, if there is one, as the hand-written class.
Its runs are interleaved, in one process, with those of the Transformer in the same form. The table has medians, and the
median of the paired ratios with its 95% interval. In the Transformer's own row, the Transformer is compared with
itself: the difference of the ratio from 1 is noise.

A step runs several blocks in one jitted function, so that their parameters do not all fit in the processor's cache; the
blocks' own caches are donated. The time of a block is the time of the step divided by the number of blocks. A program
tied to one length, such as PRIMER, is built for each context, with the context as its length.

`--write` writes the figures to benchmarks/results/decode_cost.txt and .json, and updates the table in docs/library.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from primer_search.benchmarks.library_table import RESULTS, decode_results, library_markdown
from primer_search.benchmarks.options_and_hardware import add_pairs, benchmark_parser, hardware, pin_to_one_core
from primer_search.benchmarks.paired_times import Ratio, Run, paired_ratio, run_interleaved, timed_run
from primer_search.models import DNABlock
from primer_search.models import nnx as nnx_blocks
from primer_search.primitives import DNA, PrimerSearchError, UsageError, build_graph
from primer_search.primitives.graphs.cost import block_cost
from primer_search.primitives.graphs.decode_state import cache_size
from primer_search.primitives.ops.value_types import MODEL_WIDTH
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.tests.support.hand_written_blocks import CLASSES

BASELINE = "TRANSFORMER"
PAGE = Path(__file__).parents[1] / "docs" / "library.md"
BYTES = {"float32": 4, "bfloat16": 2}

MIN_SECONDS = 0.05
"""Shortest run; a run takes several steps if one is shorter."""


@dataclass(frozen=True, slots=True)
class CacheRow:
    """Numbers that one block caches for one sequence; a number has 4 bytes in float32 and 2 in bfloat16.

    Attributes:
        program: name of the program.
        parameters: parameters of the block at this width; at the first context if the program is tied to a length.
        per_position: cached numbers for each position.
        fixed: cached numbers that do not depend on the number of positions.
    """

    program: str
    parameters: int
    per_position: int
    fixed: int


@dataclass(frozen=True, slots=True)
class StepRow:
    """Time of one block for one new token.

    Attributes:
        program: name of the program.
        kind: `DNABlock`, or the hand-written class.
        context: number of positions, with the new one.
        batch: number of sequences.
        milliseconds: median time.
        ratio: time relative to the Transformer's of the same kind.
    """

    program: str
    kind: str
    context: int
    batch: int
    milliseconds: float
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the measurement."""

    width: int
    layers: int
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    pairs: int
    dtype: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print tables."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.width < MODEL_WIDTH or options.width % MODEL_WIDTH:
        parser.error(f"--width {options.width} must be a positive multiple of {MODEL_WIDTH}")
    if not options.all_cores:
        pin_to_one_core()
    settings = Settings(
        options.width, options.layers, tuple(options.contexts), tuple(options.batches), options.pairs, options.dtype
    )
    steps = []
    try:
        programs = dict(_program(given, settings) for given in options.programs or library.names())
        caches = [cache_row(name, dna, settings) for name, dna in programs.items()]
        for row in step_rows(programs, settings):
            steps.append(row)
            print(_step_line(row), flush=True)
    except (PrimerSearchError, OSError) as error:
        parser.error(str(error))
    about = hardware("decode_cost.py", arguments)
    document = {"about": about, "settings": asdict(settings)}
    document |= {"cache": [asdict(row) for row in caches], "steps": [asdict(row) for row in steps]}
    text = report(about, settings, caches, steps)
    print(f"\n{text}")
    if options.write:
        write(document, text)


def cache_row(name: str, dna: DNA, settings: Settings) -> CacheRow:
    """Return the cache size of a program, from its graph."""
    graph, unit, length = build_graph(dna, length_dependent=True), settings.width // MODEL_WIDTH, settings.contexts[0]
    size = cache_size(graph, unit, length)
    return CacheRow(name, block_cost(graph, unit, length).parameters, size.per_position, size.fixed)


def step_rows(programs: Mapping[str, DNA], settings: Settings) -> Iterator[StepRow]:
    """Time every program and the Transformer, at each context and batch."""
    baseline = library.get(BASELINE, settings.width // MODEL_WIDTH)
    for context in settings.contexts:
        for batch in settings.batches:
            start = partial(start_decoding, settings=settings, context=context, batch=batch)
            ours = {kind: start(BASELINE, make) for kind, make in makers(BASELINE, baseline, settings, context).items()}
            by_hand = next(kind for kind in ours if kind != DNABlock.__name__)
            for name, dna in programs.items():
                for kind, make in makers(name, dna, settings, context).items():
                    transformer = ours[DNABlock.__name__ if kind == DNABlock.__name__ else by_hand]
                    own = transformer if name == BASELINE else start(name, make)
                    times = run_interleaved({"own": own, "other": transformer}, settings.pairs)
                    milliseconds = 1000 * float(np.median(times["own"]))
                    ratio = paired_ratio(times["own"], times["other"])
                    yield StepRow(name, kind, context, batch, milliseconds, ratio)


def makers(name: str, dna: DNA, settings: Settings, context: int) -> dict[str, Callable[[], Any]]:
    """Return functions that make a program's blocks: a `DNABlock`, and the hand-written class if there is one."""
    tied = {"length": context} if build_graph(dna, length_dependent=True).length_dependent else {}
    dtype = jnp.dtype(settings.dtype)
    options = tied | {"width": settings.width, "dtype": dtype, "param_dtype": dtype}
    kinds: dict[str, Callable[[], Any]] = {DNABlock.__name__: lambda: DNABlock(dna, **options, rngs=nnx.Rngs(0))}
    if name in CLASSES:
        kinds[CLASSES[name]] = lambda: getattr(nnx_blocks, CLASSES[name])(**options, rngs=nnx.Rngs(0))
    return kinds


def start_decoding(name: str, make: Callable[[], Any], settings: Settings, context: int, batch: int) -> Run:
    """Return a run of steps at the last position of a cache of `context`; it returns the seconds of one block."""

    def empty() -> Any:
        block = make()
        block.init_cache((batch, context, settings.width), settings.dtype)
        return block

    graphdef, parameters, cache = nnx.split(nnx.eval_shape(empty), nnx.Param, nnx.Cache)
    rng = np.random.default_rng(0)
    layers, scale = range(settings.layers), 1 / math.sqrt(settings.width)
    stacked = [jax.tree.map(lambda leaf: _drawn(leaf, rng, scale), parameters) for _ in layers]
    caches = [jax.tree.map(lambda leaf: _filled(leaf, context, rng), cache) for _ in layers]
    x = jnp.asarray(rng.standard_normal((batch, 1, settings.width)), settings.dtype)

    def decode(stacked: list[Any], caches: list[Any], x: jax.Array) -> tuple[jax.Array, list[Any]]:
        after = []
        for own, before in zip(stacked, caches, strict=True):
            module = nnx.merge(graphdef, own, before)
            x = module(x, decode=True)
            # Reset the position, so that each step decodes the last one.
            now = nnx.state(module, nnx.Cache)
            after.append(jax.tree.map(lambda new, old: new if old.ndim else old, now, before))
        return x, after

    compiled = jax.jit(decode, donate_argnums=1).lower(stacked, caches, x).compile()
    y, caches = compiled(stacked, caches, x)
    if not bool(jnp.isfinite(y).all()):
        raise UsageError(f"{name} decodes to values that are not finite, so its time is meaningless; leave it out")

    def step() -> jax.Array:
        nonlocal caches
        y, caches = compiled(stacked, caches, x)
        return y

    run = timed_run(step, MIN_SECONDS)
    return lambda: run() / settings.layers


def report(about: Mapping[str, Any], settings: Settings, caches: Sequence[CacheRow], steps: Sequence[StepRow]) -> str:
    """Return the results as text."""
    bytes_of = [f"{dtype + ' bytes':>17} {'fixed':>7}" for dtype in BYTES]
    lines = [
        f"$ {about['command']}",
        ", ".join(f"{key} {value}" for key, value in about.items() if key != "command"),
        f"One block of width {settings.width}; {settings.dtype}, {settings.layers} blocks a step.",
        "",
        f"{'cache of a block':24} {'parameters':>10} {' '.join(bytes_of)}   (a token; besides, a sequence)",
    ]
    for row in caches:
        sizes = [f"{size * row.per_position:17,} {size * row.fixed:7,}" for size in BYTES.values()]
        lines.append(f"{row.program:24} {row.parameters:10,} {' '.join(sizes)}")
    head = f"{'context':>7} {'batch':>5} {'block ms':>9} {'/ Transformer':>13}  95% interval"
    return "\n".join([*lines, "", f"{'decode step':24} {'as':20} {head}", *map(_step_line, steps)])


def write(document: Mapping[str, Any], text: str, results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the results, and update the page's table if it shows the previous results."""
    former = library_markdown(decode_results(results))
    results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    results.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    if former not in text:
        raise SystemExit(f"{page.name} does not have the table of the previous results: insert library_markdown()")
    page.write_text(text.replace(former, library_markdown(decode_results(results))), encoding="utf-8")


def _step_line(row: StepRow) -> str:
    interval = f"{row.ratio.low:.3f} to {row.ratio.high:.3f}"
    sizes = f"{row.context:7} {row.batch:5} {row.milliseconds:9.3f} {row.ratio.median:13.3f}"
    return f"{row.program:24} {row.kind:20} {sizes}  {interval}"


def _drawn(leaf: jax.ShapeDtypeStruct, rng: np.random.Generator, scale: float = 1.0) -> jax.Array:
    """Return random numbers, drawn by NumPy so that JAX compiles nothing; the time does not depend on their values."""
    return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)


def _filled(leaf: jax.ShapeDtypeStruct, context: int, rng: np.random.Generator) -> jax.Array:
    """Return an array of a cache that is full except for the last position; the only scalar is the position."""
    return _drawn(leaf, rng) if leaf.ndim else jnp.asarray(context - 1, leaf.dtype)


def _program(given: str, settings: Settings) -> tuple[str, DNA]:
    """Return the name and the DNA of a library program or a file."""
    if given.endswith(".json"):
        return Path(given).stem, dna_from_json(Path(given).read_text(encoding="utf-8"))
    return given, library.get(given, settings.width // MODEL_WIDTH)


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM|FILE.json", help="default: the whole library")
    parser.add_argument("--width", type=int, default=512, help="channels, a multiple of 8")
    parser.add_argument("--layers", type=int, default=4, help="blocks in a step")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 512, 2048], help="positions, new one included")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="sequences in a batch")
    parser.add_argument("--dtype", choices=tuple(BYTES), default="float32", help="type of all numbers")
    parser.add_argument(
        "--write", action="store_true", help="write the figures to benchmarks/results and docs/library.md"
    )
    add_pairs(parser, 20)
    return parser


if __name__ == "__main__":
    main()
