"""Least squares in context: one mesa layer against layers of linear and softmax attention, on linear dynamics.

This repeats an experiment of von Oswald et al. 2023 (arXiv 2309.05858) at a small size. Each sequence has its own
random orthogonal matrix W, and s_{t+1} = W s_t + noise, so nothing can be memorised. A model reads (s_t, s_{t-1}) and
predicts s_{t+1}; its loss is the squared error per component. At each position the optimum is ridge regression on the
prefix, which needs as many positions as there are components. The inputs pair each state with the one before it, as the
first layer of the paper's deep models learns to do. Layers are residual, without a feed forward. Each model is trained
with and without an RMS norm before each layer, at every learning rate of `--rates`. The variant with the lowest error
on a separate set of sequences is reported. Without a norm, four layers of linear attention overflow; with a norm, the
mesa layer cannot use the sizes of the states.

    python benchmarks/linear_dynamics.py [--steps 800] [--seeds 3] [--rates 0.01] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from primer_search.models.block import BlockFunctions, compile_block
from primer_search.primitives import build_graph
from primer_search.primitives.programs.assembler import assemble

__all__ = ["LAYERS", "Setting", "draw_sequences", "errors_of_model", "layer_program", "ridge_errors"]

HEADS = 4

SCORES = {
    "mesa": "solved = LEAST_SQUARES queries keys\nscores = T_MAT_MUL solved keys\nweights = MASK scores",
    "linear": "scaled = C_MUL queries constant=share\nscores = T_MAT_MUL scaled keys\nweights = MASK scores",
    "softmax": "scaled = C_MUL queries constant=scale\nscores = T_MAT_MUL scaled keys\nraised = EXP scores\n"
    "visible = MASK raised\ntotal = RED_SUM visible\nweights = DIVIDE visible total",
}
"""Weights of the values in each kind of layer."""

LAYERS = (("mesa", 1), *(("linear", layers) for layers in (1, 2, 4, 6)), *(("softmax", n) for n in (1, 2, 4, 6)))
"""Kinds of layer and numbers of layers that are compared."""


@dataclass(frozen=True)
class Setting:
    """Sizes of the experiment.

    Attributes:
        components: components of a state.
        length: number of predictions in a sequence.
        noise: standard deviation of the noise of each component.
        batch: sequences in a step.
        steps: steps of training.
        seeds: trainings of each model.
        rate: initial learning rate, which falls to zero along a cosine.
        norm: whether an RMS norm comes before each layer.
        held_out: sequences that the errors are measured on.
    """

    components: int = 8
    length: int = 32
    noise: float = 0.1
    batch: int = 32
    steps: int = 800
    seeds: int = 3
    rate: float = 1e-2
    norm: bool = False
    held_out: int = 512


def draw_sequences(setting: Setting, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return states [count, length + 2, components] of sequences with a random orthogonal matrix each."""
    size = setting.components
    matrices = np.linalg.qr(rng.standard_normal((count, size, size)))[0] * rng.choice([-1, 1], (count, 1, size))
    states = [rng.standard_normal((count, size))]
    for _ in range(setting.length + 1):
        moved = np.einsum("nij,nj->ni", matrices, states[-1])
        states.append(moved + setting.noise * rng.standard_normal((count, size)))
    return np.stack(states, axis=1).astype(np.float32)


def ridge_errors(setting: Setting, states: np.ndarray) -> np.ndarray:
    """Return the mean squared error of ridge regression on the prefix, by position.

    The ridge gives the best linear estimate: it is the variance of the noise divided by the variance of an entry of W,
    which is 1 / components.
    """
    before, after = states[:, :-1].astype(np.float64), states[:, 1:].astype(np.float64)
    ridge = setting.noise**2 * setting.components * np.eye(setting.components)
    errors = []
    for seen in range(1, setting.length + 1):
        keys, values = before[:, :seen], after[:, :seen]
        estimate = np.linalg.solve(keys.swapaxes(1, 2) @ keys + ridge, keys.swapaxes(1, 2) @ values)
        predicted = np.einsum("ni,nij->nj", before[:, seen], estimate)
        errors.append(np.mean((predicted - after[:, seen]) ** 2))
    return np.array(errors)


def layer_program(kind: str, setting: Setting) -> BlockFunctions:
    """Return one residual layer of a kind, with one channel of a head for each component of a state."""
    texts = {
        "main": f"{'normed = norm h0' if setting.norm else ''}\n"
        f"heads = attention {'normed' if setting.norm else 'h0'} branches={HEADS}\n"
        "mixed = CONV_1X1 heads width=8\nsum = ADD mixed h0",
        "attention": "keys = CONV_1X1 h0 width=8\nqueries = CONV_1X1 h0 width=8\nvalues = CONV_1X1 h0 width=8\n"
        f"{SCORES[kind]}\noutput = MAT_MUL weights values",
        "norm": "squared = SQUARE h0\npower = RED_MEAN squared\nroot = ABS_ROOT power\nunit = DIVIDE h0 root",
    }
    constants = {"share": 1 / setting.length, "scale": setting.components**-0.5}
    return compile_block(build_graph(assemble(texts, constants, (8,))), setting.components * HEADS // 8)


def errors_of_model(kind: str, layers: int, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Return errors after training, two arrays [seeds, length]: the first chooses a variant, the second is reported."""
    layer = layer_program(kind, setting)

    def init(seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        size, width = setting.components, layer.width
        return {
            "read": rng.standard_normal((2 * size, width)).astype(np.float32) / (2 * size) ** 0.5,
            "write": rng.standard_normal((width, size)).astype(np.float32) / width,
            "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *[layer.init(rng) for _ in range(layers)]),
        }

    def errors(parameters: Any, states: jax.Array) -> jax.Array:
        x = jnp.concatenate([states[:, 1:-1], states[:, :-2]], axis=-1) @ parameters["read"]
        x, _ = jax.lax.scan(lambda x, learned: (layer.apply(learned, x), None), x, parameters["layers"])
        return jnp.mean((x @ parameters["write"] - states[:, 2:]) ** 2, axis=(0, 2))

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(setting.rate, setting.steps))
    )

    def step(parameters: Any, state: Any, states: jax.Array) -> tuple[Any, Any]:
        gradients = jax.grad(lambda parameters: jnp.mean(errors(parameters, states)))(parameters)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), state

    parameters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[init(seed) for seed in range(setting.seeds)])
    state, advance = jax.vmap(optimizer.init)(parameters), jax.jit(jax.vmap(step), donate_argnums=(0, 1))
    rng = np.random.default_rng(1)
    for _ in range(setting.steps):
        drawn = draw_sequences(setting, setting.seeds * setting.batch, rng)
        parameters, state = advance(parameters, state, drawn.reshape(setting.seeds, setting.batch, *drawn.shape[1:]))
    measure = jax.jit(jax.vmap(errors, (0, None)))
    choose, report = (np.asarray(measure(parameters, held_out(setting, seed))) for seed in (3, 2))
    return choose, report


def held_out(setting: Setting, seed: int = 2) -> np.ndarray:
    """Return the sequences that all models are measured on."""
    return draw_sequences(setting, setting.held_out, np.random.default_rng(seed))


def table(setting: Setting, rows: dict[str, np.ndarray], optimum: np.ndarray) -> str:
    """Return the errors at some positions, mean and standard deviation over the seeds, as text."""
    places = [place for place in (1, 2, 4, 8, 12, 16, 24, 32, 40, 64) if place <= setting.length]
    lines = [f"{'pairs seen':<32}" + "".join(f"{place:>16}" for place in places) + f"{'all positions':>16}"]
    lines.append(_line("ridge regression", [f"{optimum[place - 1]:.4f}" for place in places], f"{optimum.mean():.4f}"))
    for name, errors in rows.items():
        cells = [_spread(errors[:, place - 1]) for place in places]
        lines.append(_line(name, cells, _spread(errors.mean(axis=1))))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str], last: str) -> str:
    return f"{name:<32}" + "".join(f"{cell:>16}" for cell in [*cells, last])


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}" if len(values) > 1 else f"{values.mean():.4f}"


def compare(
    setting: Setting, models: Sequence[tuple[str, int]], rates: Sequence[float], tell: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Return the errors of each model in its best variant, [seeds, length]; `tell` gets a line for each training."""
    rows = {}
    for kind, layers in models:
        found: list[tuple[float, str, np.ndarray]] = []
        for rate, norm in product(rates, (False, True)):
            began, name = time.process_time(), f"{kind}, {layers} layer{'s' * (layers > 1)}{', norm' * norm}"
            choose, report = errors_of_model(kind, layers, replace(setting, rate=rate, norm=norm))
            size = float(choose.mean()) if np.isfinite(choose).all() else float("inf")
            found.append((size, f"{name} at {rate:g}", report))
            tell(f"{name} at {rate:g}: {report.mean():.4f} in {time.process_time() - began:.0f} CPU seconds")
        _, name, rows_of_best = min(found, key=lambda one: one[0])
        rows[name] = rows_of_best
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    settings = {name: value for name, value in asdict(Setting()).items() if name not in ("rate", "norm")}
    for name, value in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"[{value}]")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-2], help="Largest learning rates.")
    parser.add_argument("--models", nargs="+", default=[f"{kind}:{layers}" for kind, layers in LAYERS])
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = vars(parser.parse_args())
    as_json, named, rates = options.pop("json"), options.pop("models"), options.pop("rates")
    setting = Setting(**options)
    models = [(kind, int(layers)) for kind, layers in (model.split(":") for model in named)]
    rows = compare(setting, models, rates, (lambda line: None) if as_json else print)
    optimum = ridge_errors(setting, held_out(setting))
    if as_json:
        errors = {name: found.tolist() for name, found in rows.items()}
        print(json.dumps({"setting": asdict(setting), "ridge_regression": optimum.tolist(), "errors": errors}))
    else:
        print(f"\n{setting}\n\n{table(setting, rows, optimum)}")


if __name__ == "__main__":
    main()
