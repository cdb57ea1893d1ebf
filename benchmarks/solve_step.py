"""Step time of a block with a mesa layer, compared with softmax and linear attention, by sequence length.

    python benchmarks/solve_step.py [--lengths 64 256 1024] [--tokens 1024] [--rounds 9] [--json]

A step computes the output of one block and its gradients. The number of tokens in a batch is the same for each length,
but at least one sequence. The blocks take turns in each round (`paired_times`), and ratios are those of pairs. `LINEAR`
is the mesa block with the queries in place of the solutions. `LEAST_SQUARES` is the op alone, with the number of heads
of the block. Each position takes as many conjugate-gradient steps as it needs (`solve_accuracy.py` counts them). Here
weights and inputs are random, and keys have length 1. MB is the temporary memory of a step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, pin_to_one_core, processor_name
from primer_search.benchmarks.paired_times import clock, paired_ratio, run_interleaved, timed_run
from primer_search.models.block import compile_block
from primer_search.models.functional.least_squares import least_squares
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.ops.least_squares import SOLVE_STEPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import Instruction

__all__ = ["measure"]

PROGRAMS = ("TRANSFORMER", "LINEAR", "TRANSFORMER_MESA", "TRANSFORMER_MESA_HYBRID", "LEAST_SQUARES")
HEADS = 8


def measure(length: int, batch: int, unit: int, rounds: int, least_seconds: float, steps: int) -> list[dict[str, Any]]:
    """Return the step time of each program at a length, and its paired ratio to the Transformer's."""
    made = {name: _step(name, length, batch, unit, steps) for name in PROGRAMS}
    times = run_interleaved({name: timed_run(step, least_seconds) for name, (step, _) in made.items()}, rounds)
    return [
        {
            "program": name,
            "length": length,
            "batch": batch,
            "milliseconds": 1e3 * float(np.median(times[name])),
            "megabytes": made[name][1] / 1e6,
            "ratio": asdict(paired_ratio(times[name], times[PROGRAMS[0]])),
        }
        for name in PROGRAMS
    ]


def _step(name: str, length: int, batch: int, unit: int, steps: int) -> tuple[Callable[[], Any], int]:
    """Return a step, and the bytes of its temporary arrays."""
    rng = np.random.default_rng(0)
    if name == "LEAST_SQUARES":
        q, k = rng.standard_normal((2, batch, HEADS, length, unit)).astype(np.float32)
        given = (q, k / np.linalg.norm(k, axis=-1, keepdims=True))
        output: Callable[..., jax.Array] = partial(least_squares, ridge=jnp.ones((1, 1, 1, unit)), steps=steps)
    else:
        dna = _without_solutions(library.get("TRANSFORMER_MESA", unit)) if name == "LINEAR" else library.get(name, unit)
        block = compile_block(build_graph(dna), unit, solve_steps=steps)
        given = (block.init(rng), rng.standard_normal((batch, length, block.width)).astype(np.float32))
        output = block.apply

    def loss(first: Any, second: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(output(first, second)))

    gradient = jax.jit(jax.grad(loss, (0, 1))).lower(*given).compile()
    memory = gradient.memory_analysis()
    return lambda: gradient(*given), memory.temp_size_in_bytes if memory else 0


def _without_solutions(dna: DNA) -> DNA:
    """Return the program with its queries, times 1, in place of the solutions of LEAST_SQUARES."""
    one = len(dna.constants)

    def changed(instruction: Instruction) -> Instruction:
        return replace(instruction, op="C_MUL", constant=one) if instruction.op == "LEAST_SQUARES" else instruction

    subprograms = [replace(each, instructions=tuple(map(changed, each.instructions))) for each in dna.subprograms]
    return replace(dna, constants=(*dna.constants, 1.0), subprograms=tuple(subprograms))


def main() -> None:
    """Run the benchmark and print a table."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024], help="Positions of a sequence.")
    parser.add_argument("--tokens", type=int, default=1024, help="Tokens of a batch, at least one sequence [1024].")
    parser.add_argument("--unit", type=int, default=8, help="Channels of a unit; the block has 8 units [8].")
    parser.add_argument(
        "--steps", type=int, default=SOLVE_STEPS, help="Largest number of conjugate-gradient steps [256]."
    )
    parser.add_argument("--rounds", type=int, default=9, help="Pairs of measurements [9].")
    parser.add_argument("--least-seconds", type=float, default=0.5, help="Duration of one measurement [0.5].")
    add_json(parser)
    options = parser.parse_args()
    pin_to_one_core()
    rows = []
    for length in options.lengths:
        batch = max(1, options.tokens // length)
        rows += measure(length, batch, options.unit, options.rounds, options.least_seconds, options.steps)
    about = {"machine": processor_name(), "jax": jax.__version__, "clock": clock().__name__, "unit": options.unit}
    if options.json:
        print(json.dumps({"about": about, "steps": rows}))
        return
    print(about)
    print(f"{'program':<25}{'length':>8}{'batch':>7}{'MB':>8}{'ms':>10}{'ratio':>8}  95% interval")
    for row in rows:
        ratio = row["ratio"]
        print(
            f"{row['program']:<25}{row['length']:>8}{row['batch']:>7}{row['megabytes']:>8.1f}{row['milliseconds']:>10.1f}"
            f"{ratio['median']:>8.2f}  {ratio['low']:.2f} to {ratio['high']:.2f}"
        )


if __name__ == "__main__":
    main()
