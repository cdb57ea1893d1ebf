"""Number of conjugate-gradient steps that LEAST_SQUARES needs, and its errors in float32.

    python benchmarks/solve_accuracy.py [--keys unit normal long] [--channels 8 16 32 64 128] [--seeds 0 1 2] [--json]

Queries and keys are drawn from a normal distribution. Keys are scaled to length 1 (`unit`), not scaled (`normal`), or
three times as long (`long`). Ridges are softplus(normal) + 0.25. A sequence has four times as many positions as
channels, because the systems are hardest at positions that have seen about as many keys as there are channels. The
number of steps of a position is the last step at which its solution changed. An error is the largest difference from
the exact array in float64, divided by the largest entry of that array. Gradients are those of a weighted sum of the
outputs, with respect to queries, keys and ridges; the largest of the three errors is shown.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware
from primer_search.models.functional.least_squares import apply_least_squares
from primer_search.primitives.ops.least_squares import SOLVE_STEPS, least_squares

__all__ = ["measure"]

KEYS = ("unit", "normal", "long")
SEQUENCES = 2


def measure(keys: str, channels: int, seed: int) -> dict[str, Any]:
    """Return the numbers of steps that positions need, and the relative errors of outputs and gradients."""
    arrays = _drawn(keys, channels, seed)
    needed = _steps_needed(arrays)
    fast = _output_and_gradients(partial(apply_least_squares, steps=SOLVE_STEPS), arrays, np.float32)
    with jax.enable_x64(True):
        exact = _output_and_gradients(least_squares, arrays, np.float64)
    errors = [np.abs(found - wanted).max() / np.abs(wanted).max() for found, wanted in zip(fast, exact, strict=True)]
    return {
        "keys": keys,
        "channels": channels,
        "seed": seed,
        "median_steps": float(np.median(needed)),
        "most_steps": int(needed.max()),
        "positions_above_30": float(np.mean(needed > 30)),
        "hardest_position": int(needed.max(axis=0).argmax()) + 1,
        "output_error": float(errors[0]),
        "gradient_error": float(max(errors[1:])),
    }


def _drawn(keys: str, channels: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, SEQUENCES, 4 * channels, channels))
    if keys == "unit":
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
    return [q, 3 * k if keys == "long" else k, rng.standard_normal(channels)]


def _steps_needed(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the last step at which the solution of each position changed, [sequences, length]."""
    q, k, ridge = (array.astype(np.float32) for array in arrays)

    @jax.jit
    def in_steps(steps: int, q: jax.Array, k: jax.Array, ridge: jax.Array) -> jax.Array:
        return apply_least_squares(jnp, [q, k], {"ridge": ridge}, 0.0, 1, steps=steps)

    def after(steps: int) -> np.ndarray:
        return np.asarray(in_steps(steps, q, k, ridge))

    last, needed, steps = after(SOLVE_STEPS), np.zeros(q.shape[:2], int), 0
    while (changes := np.any(after(steps) != last, axis=-1)).any():
        steps += 1
        needed[changes] = steps
    return needed


def _output_and_gradients(apply: Any, arrays: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
    weights = np.random.default_rng(1).standard_normal(arrays[0].shape).astype(dtype)

    def total(q: jax.Array, k: jax.Array, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = apply(jnp, [q, k], {"ridge": ridge}, 0.0, 1)
        return jnp.sum(weights * output), output

    given = [array.astype(dtype) for array in arrays]
    gradients, output = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*given)
    return [np.asarray(array) for array in (output, *gradients)]


def main() -> None:
    """Print a row for each kind of keys and number of channels: medians and extremes over the seeds."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--keys", nargs="+", choices=KEYS, default=list(KEYS), help="kinds of keys")
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="channels of the keys")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds of the arrays")
    add_json(parser)
    options = parser.parse_args()
    about, rows = hardware("solve_accuracy.py"), []
    if not options.json:
        print(f"$ {about['command']}\n{about['device']}, JAX {about['jax']}")
        print(
            f"{'keys':8}{'channels':>9}{'steps: median':>15}{'most':>13}{'above 30':>10}{'hardest position':>18}"
            f"{'error of outputs':>22}{'of gradients':>22}"
        )
    for keys in options.keys:
        for channels in options.channels:
            found = [measure(keys, channels, seed) for seed in options.seeds]
            rows += found
            if not options.json:
                print(_line(found), flush=True)
    if options.json:
        print(json.dumps({"about": about, "rows": rows}))


def _line(rows: list[dict[str, Any]]) -> str:
    def extremes(key: str, form: str) -> str:
        values = [row[key] for row in rows]
        texts = sorted({f"{value:{form}}": value for value in values}.items(), key=lambda one: one[1])
        return texts[0][0] if len(texts) == 1 else f"{texts[0][0]} to {texts[-1][0]}"

    median = float(np.median([row["median_steps"] for row in rows]))
    above = float(np.mean([row["positions_above_30"] for row in rows]))
    return (
        f"{rows[0]['keys']:8}{rows[0]['channels']:9}{median:15.0f}{extremes('most_steps', 'd'):>13}{above:10.1%}"
        f"{extremes('hardest_position', 'd'):>18}{extremes('output_error', '.1e'):>22}"
        f"{extremes('gradient_error', '.1e'):>22}"
    )


if __name__ == "__main__":
    main()
