"""The training step and the evaluation, compiled layer by layer.

    embed -> forward pass of each layer -> head -> backward pass of each layer -> update

Each of these is a compiled program. All layers share the two programs of a layer, and all candidates share the others,
so a candidate compiles one layer forward and backward, however many layers there are. A step takes longer: XLA cannot
fuse operations of different programs, and each program is dispatched by itself (benchmarks/layerwise_step.py).

For its backward pass, a layer keeps the results of its expensive operations and computes the others again. Each kept
array is an output of the forward pass, which is compiled and written by itself, so to keep them all would take longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ....models.config import ModelConfig
from ....models.language_model import PROBE_LOGITS, LanguageModel, negative_log_likelihood
from .flat_model import FlatModel, FlatParameters, TrainableModel, outside_arrays
from .train_step import StepFunctions, StepResult, TrainState, shapes_of, static_cost_of, update_state

__all__ = ["LayerwiseFunctions", "clear_shared_programs", "step_functions"]

BRIEF_FLOPS = 1e12
"""FLOPs of a brief training. At `laptop`, twice the FLOPs of its trials: about 2,000 steps, after which a step that is
compiled layer by layer has lost what its compilation saved (benchmarks/layerwise_step.py)."""

EXPENSIVE = frozenset(
    ["conv_general_dilated", "cos", "custom_vjp_call", "dot_general", "exp", "logistic", "scan", "sin", "tanh", "while"]
)
"""Operations whose results are kept for the backward pass, beside those whose names begin with `cum`."""


def step_functions(
    model: TrainableModel,
    optimizer: optax.GradientTransformation,
    batch: int,
    averaging: float = 0.0,
    mesh: Mesh | None = None,
    steps: int | None = None,
) -> StepFunctions:
    """Return the functions that train a model on token windows soonest, compilation included.

    Brief trainings on one CPU are compiled layer by layer, unless `model.stack` asks for another form. All candidates
    of a run get the same form, because their step times are compared.

    Args:
        model: language model.
        optimizer: gradient transformation.
        batch: number of token windows in a batch.
        averaging: exponent of the average of parameters; 0: no average.
        mesh: mesh of the devices; None: one.
        steps: steps of the training; None: unknown, or many.
    """
    brief = steps is not None and _nominal_flops(model.config, batch, steps) <= BRIEF_FLOPS
    on_one_cpu = mesh is None and jax.default_backend() == "cpu"
    if isinstance(model, FlatModel) and model.config.stack == "auto" and brief and on_one_cpu:
        return LayerwiseFunctions(model, optimizer, batch, averaging)
    return StepFunctions(model, optimizer, batch, averaging, mesh=mesh)


def _nominal_flops(config: ModelConfig, batch: int, steps: int) -> float:
    """Return the FLOPs of training a Transformer: six for each parameter and token (Kaplan et al. 2020)."""
    parameters = 12 * config.layers * config.width**2 + config.vocabulary * config.width
    return 6.0 * parameters * steps * batch * config.length


@dataclass(frozen=True, slots=True)
class _Program:
    """A compiled program, and its operation counts (see `StepFunctions.static_cost`)."""

    run: Callable[..., Any]
    cost: Mapping[str, float]


class LayerwiseFunctions(StepFunctions):
    """The training step and the evaluation for token windows, compiled layer by layer on request.

    Args:
        model: language model.
        optimizer: gradient transformation that updates its parameters. Models with the same one share programs.
        batch: number of token windows in a batch.
        averaging: exponent of the average of parameters (see `OptimizerConfig`); 0: no average.
    """

    def __init__(self, model: FlatModel, optimizer: optax.GradientTransformation, batch: int, averaging: float = 0.0):
        super().__init__(model, optimizer, batch, averaging)
        self._flat = model
        self._places = [jax.device_put(np.int32(place)) for place in range(model.config.layers)]

    def compile_step(self, state: TrainState) -> None:
        """Compile what no earlier model has compiled for states of this shape."""
        config, batch, layers = self._flat.config, self._batch.shape[0], self._flat.config.layers
        self._outside = _outside_programs(config, batch)
        self._layer = _layer_programs(self._flat, batch)
        leaves, structure = jax.tree.flatten(state)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        self._update = _update_program(config, batch, self._optimizer, self._averaging, structure, shapes)
        outside = (self._outside.embed, self._outside.head, self._update)
        self.static_cost = _sum_of_costs([*outside, *[self._layer.forward, self._layer.backward] * layers])
        self._step = self._take_step
        self._rated = state.rate is not None

    def compile_evaluation(self, state: TrainState) -> None:
        """Make the evaluation ready, which shares the programs of the step."""
        self._evaluate = self._evaluate_batch

    def _take_step(self, state: TrainState, tokens: Any) -> tuple[TrainState, StepResult]:
        outside, layers = state.parameters
        x = self._outside.embed.run(outside, tokens)
        before: list[tuple[jax.Array, list[jax.Array]]] = []  # input and kept values of each layer
        for place in self._places:
            y, kept = self._layer.forward.run(layers, place, x)
            before.append((x, kept))
            x = y
        losses, probe_logits, of_outside, gradient = self._outside.head.run(outside, x, tokens)
        of_layers: list[jax.Array] = []
        for place in reversed(self._places):
            of_layer, gradient = self._layer.backward.run(layers, place, *before.pop(), gradient)
            of_layers.append(of_layer)
        state, norm = self._update.run(state, of_outside, of_layers[::-1], gradient, tokens)
        return state, StepResult(losses, norm, probe_logits)

    def _evaluate_batch(self, parameters: FlatParameters, tokens: Any) -> tuple[jax.Array, jax.Array]:
        x = self._outside.embed.run(parameters.outside, tokens)
        for place in self._places:
            x, _ = self._layer.forward.run(parameters.layers, place, x)
        return self._outside.score.run(parameters.outside, x, tokens)


@dataclass(frozen=True, slots=True)
class _OutsidePrograms:
    """Programs that depend on no block.

    Attributes:
        embed: (outside, tokens) -> input of the first layer.
        head: (outside, x, tokens) -> token losses, probe logits, gradients of `outside` and `x`.
        score: (outside, x, tokens) -> mean loss, and that at each position.
    """

    embed: _Program
    head: _Program
    score: _Program


@lru_cache(maxsize=8)
def _outside_programs(config: ModelConfig, batch: int) -> _OutsidePrograms:
    model = LanguageModel(config, block=None)
    size = (config.vocabulary + 2) * config.width
    outside, x, tokens = jax.ShapeDtypeStruct((size,), jnp.float32), _stream(config, batch), _windows(config, batch)

    def embed(outside: jax.Array, tokens: jax.Array) -> jax.Array:
        return model.embed(outside_arrays(outside, config), tokens[:, :-1])

    def losses_of(outside: jax.Array, x: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model.head(outside_arrays(outside, config), x)
        return negative_log_likelihood(logits, tokens[:, 1:]), logits[..., :PROBE_LOGITS]

    def head(outside: jax.Array, x: jax.Array, tokens: jax.Array) -> tuple[jax.Array, ...]:
        def mean_loss(outside: jax.Array, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            losses, probe_logits = losses_of(outside, x, tokens)
            return jnp.mean(losses), (losses, probe_logits)

        gradients, (losses, probe_logits) = jax.grad(mean_loss, (0, 1), has_aux=True)(outside, x)
        return losses, probe_logits, *gradients

    def score(outside: jax.Array, x: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses, _ = losses_of(outside, x, tokens)
        return jnp.mean(losses), jnp.mean(losses, axis=0)

    return _OutsidePrograms(
        _compile(embed, outside, tokens), _compile(head, outside, x, tokens), _compile(score, outside, x, tokens)
    )


@dataclass(frozen=True, slots=True)
class _LayerPrograms:
    """Programs of one layer, whose place in the stack is an argument.

    Attributes:
        forward: (layers, place, x) -> y, and the values that are kept.
        backward: (layers, place, x, kept values, gradient of y) -> gradients of the layer's row and of x.
    """

    forward: _Program
    backward: _Program


def _layer_programs(model: FlatModel, batch: int) -> _LayerPrograms:
    kept_by: Callable[..., bool] | None = None if model.model.rematerialize else _is_expensive

    @partial(jax.checkpoint, policy=kept_by)
    def apply(row: jax.Array, x: jax.Array) -> jax.Array:
        return model.model.block.apply(model.layer(row), x)

    def row_of(layers: jax.Array, place: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(layers, place, keepdims=False)

    structure: Any = None  # of the function that computes the gradients, which is a pytree of the values that it needs
    inputs: list[int | None] = []  # for each of its values: the number of the input that it is, or None

    def forward(layers: jax.Array, place: jax.Array, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        nonlocal structure, inputs
        given = row_of(layers, place), x
        y, gradients = jax.vjp(apply, *given)
        values, structure = jax.tree.flatten(gradients)
        inputs = [next((i for i, each in enumerate(given) if each is value), None) for value in values]
        return y, [value for value, number in zip(values, inputs, strict=True) if number is None]

    def backward(
        layers: jax.Array, place: jax.Array, x: jax.Array, kept: list[jax.Array], gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        given, rest = (row_of(layers, place), x), iter(kept)
        values = [next(rest) if number is None else given[number] for number in inputs]
        return jax.tree.unflatten(structure, values)(gradient)

    layers, place = shapes_of(model.init(np.random.default_rng(0)).layers), jax.ShapeDtypeStruct((), jnp.int32)
    x = _stream(model.config, batch)
    forward_program = _compile(forward, layers, place, x)
    y, kept = jax.eval_shape(forward, layers, place, x)
    return _LayerPrograms(forward_program, _compile(backward, layers, place, x, kept, y))


def _is_expensive(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in EXPENSIVE or primitive.name.startswith("cum")


@lru_cache(maxsize=64)
def _update_program(
    config: ModelConfig,
    batch: int,
    optimizer: optax.GradientTransformation,
    averaging: float,
    structure: Any,
    shapes: tuple[tuple[tuple[int, ...], str], ...],
) -> _Program:
    """Return the program (state, gradients of `outside`, the rows and the embedded tokens, tokens) -> (state, norm).

    The gradient of `outside` is that of the head; the program adds that of the embedding.

    Args:
        config: shape of the model.
        batch: number of token windows in a batch.
        optimizer: gradient transformation.
        averaging: exponent of the average of parameters.
        structure: pytree of the state, with
        shapes: the shape and dtype of each leaf.
    """
    model = LanguageModel(config, block=None)

    def update(
        state: TrainState, of_outside: jax.Array, of_rows: list[jax.Array], of_x: jax.Array, tokens: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def embed(outside: jax.Array) -> jax.Array:
            return model.embed(outside_arrays(outside, config), tokens[:, :-1])

        _, gradient_of = jax.vjp(embed, state.parameters.outside)
        gradients = FlatParameters(of_outside + gradient_of(of_x)[0], jnp.stack(of_rows))
        return update_state(state, gradients, optimizer, averaging)

    state = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes])
    rows = [jax.ShapeDtypeStruct(state.parameters.layers.shape[1:], jnp.float32)] * config.layers
    x, tokens = _stream(config, batch), _windows(config, batch)
    return _compile(update, state, state.parameters.outside, rows, x, tokens, donate_argnums=0)


def clear_shared_programs() -> None:
    """Forget the programs that models share, so that the next one compiles all of its own."""
    _outside_programs.cache_clear()
    _update_program.cache_clear()


def _compile(function: Callable[..., Any], *shapes: Any, **options: Any) -> _Program:
    lowered = jax.jit(function, **options).lower(*shapes)
    return _Program(lowered.compile(), static_cost_of(lowered))


def _sum_of_costs(programs: Iterable[_Program]) -> dict[str, float]:
    total: dict[str, float] = {}
    for program in programs:
        for name, count in program.cost.items():
            total[name] = total.get(name, 0.0) + count
    return total


def _stream(config: ModelConfig, batch: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a block's input."""
    return jax.ShapeDtypeStruct((batch, config.length, config.width), jnp.dtype(config.precision))


def _windows(config: ModelConfig, batch: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of token windows."""
    return jax.ShapeDtypeStruct((batch, config.length + 1), jnp.int32)
