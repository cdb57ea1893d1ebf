"""The training step and the evaluation, compiled layer by layer.

    embed -> forward pass of each layer -> head -> backward pass of each layer -> update

Each of these is a compiled function. All layers share the two functions of a layer. All candidates share the embedding
and the head, and candidates whose layers have about the same size share the update. So a candidate compiles only the
forward pass and the backward pass of one layer, for any number of layers. A step takes longer, because XLA cannot fuse
operations of different functions (benchmarks/layerwise_step.py).

For its backward pass, a layer keeps the results of its expensive operations and computes the others again. Keeping all
results would take longer, because each kept array is an output of the forward pass, which must be compiled and written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ....models.config import ModelConfig
from ....models.language_model import PROBE_LOGITS, LanguageModel, negative_log_likelihood
from .compiled_function import CompiledFunction, compile_function, shapes_of
from .flat_model import FlatModel, FlatParameters, outside_arrays
from .train_state import StepResult, TrainState, update_state

__all__ = ["LayerwiseStep", "clear_shared_functions"]

KEPT = frozenset(("cos", "custom_linear_solve", "custom_vjp_call", "dot_general", "exp", "log", "sin", "tanh"))
"""JAX's primitives whose results are kept for the backward pass. Those whose names begin with `cum` are kept too."""


class LayerwiseStep:
    """The step and the evaluation for token windows.

    Args:
        model: language model.
        optimizer: gradient transformation that updates the parameters. Models with the same object share functions.
        batch: number of token windows in a batch.
        averaging: exponent of the average of parameters (see `OptimizerConfig`); 0: no average.
    """

    def __init__(self, model: FlatModel, optimizer: optax.GradientTransformation, batch: int, averaging: float):
        self._model = model
        self._optimizer = optimizer
        self._batch = batch
        self._averaging = averaging
        self._indices = [jax.device_put(np.int32(index)) for index in range(model.config.layers)]
        self._compiled: tuple[_OutsideFunctions, _LayerFunctions] | None = None

    def compile_step(self, state: TrainState) -> CompiledFunction:
        """Compile what no earlier model has compiled for states of this shape. A step consumes its state."""
        config = self._model.config
        outside = _outside_functions(config, self._batch)
        layer = _layer_functions(self._model, self._batch, shapes_of(state.parameters.layers))
        leaves, structure = jax.tree.flatten(state)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        update = _update_function(config, self._batch, self._optimizer, self._averaging, structure, shapes)
        self._compiled = outside, layer

        def step(state: TrainState, tokens: Any) -> tuple[TrainState, StepResult]:
            return self._take_step(outside, layer, update, state, tokens)

        functions = [outside.embed, outside.head, update, *[layer.forward, layer.backward] * config.layers]
        return CompiledFunction(step, update.shapes, _sum_of_costs(functions))

    def compile_evaluation(self, state: TrainState) -> CompiledFunction:
        """Return the evaluation of a batch, which uses functions of the step: mean loss, and mean at each position."""
        assert self._compiled is not None, "compile_step comes first"
        outside, layer = self._compiled

        def evaluate(parameters: FlatParameters, tokens: Any) -> tuple[jax.Array, jax.Array]:
            x = outside.embed.run(parameters.outside, tokens)
            for index in self._indices:
                x, _ = layer.forward.run(parameters.layers, index, x)
            return outside.score.run(parameters.outside, x, tokens)

        return CompiledFunction(evaluate, outside.score.shapes, {})

    def _take_step(
        self,
        outside: _OutsideFunctions,
        layer: _LayerFunctions,
        update: CompiledFunction,
        state: TrainState,
        tokens: Any,
    ) -> tuple[TrainState, StepResult]:
        vector, layers = state.parameters
        x = outside.embed.run(vector, tokens)
        inputs_and_kept: list[tuple[jax.Array, list[jax.Array]]] = []  # of each layer
        for index in self._indices:
            y, kept = layer.forward.run(layers, index, x)
            inputs_and_kept.append((x, kept))
            x = y
        losses, probe_logits, outside_gradient, gradient = outside.head.run(vector, x, tokens)
        row_gradients: list[jax.Array] = []
        for index in reversed(self._indices):
            row_gradient, gradient = layer.backward.run(layers, index, *inputs_and_kept.pop(), gradient)
            row_gradients.append(row_gradient)
        state, norm = update.run(state, outside_gradient, row_gradients[::-1], gradient, tokens)
        return state, StepResult(losses, norm, probe_logits)


@dataclass(frozen=True, slots=True)
class _OutsideFunctions:
    """Compiled functions that depend on no block.

    Attributes:
        embed: (outside, tokens) -> input of the first layer.
        head: (outside, x, tokens) -> token losses, probe logits, gradients of `outside` and `x`.
        score: (outside, x, tokens) -> mean loss, and mean loss at each position.
    """

    embed: CompiledFunction
    head: CompiledFunction
    score: CompiledFunction


@lru_cache(maxsize=16)
def _outside_functions(config: ModelConfig, batch: int) -> _OutsideFunctions:
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

    return _OutsideFunctions(
        compile_function(embed, outside, tokens),
        compile_function(head, outside, x, tokens),
        compile_function(score, outside, x, tokens),
    )


@dataclass(frozen=True, slots=True)
class _LayerFunctions:
    """Compiled functions of any layer. The place of the layer in the stack is an argument.

    Attributes:
        forward: (layers, place, x) -> y, and the values kept for `backward`.
        backward: (layers, place, x, kept values, gradient of y) -> gradients of the layer's row and of x.
    """

    forward: CompiledFunction
    backward: CompiledFunction


def _layer_functions(model: FlatModel, batch: int, layers: jax.ShapeDtypeStruct) -> _LayerFunctions:
    @partial(jax.checkpoint, policy=_is_kept)
    def apply(row: jax.Array, x: jax.Array) -> jax.Array:
        return model.model.block.apply(model.layer(row), x)

    def row_of(layers: jax.Array, place: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(layers, place, keepdims=False)

    # JAX returns the gradient function as a pytree of the values that it needs. Some of them are inputs of the layer.
    structure: Any = None
    input_numbers: list[int | None] = []  # the number of the input that each value is; None: a value to keep

    def forward(layers: jax.Array, place: jax.Array, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        nonlocal structure, input_numbers
        given = row_of(layers, place), x
        y, gradients = jax.vjp(apply, *given)
        values, structure = jax.tree.flatten(gradients)
        input_numbers = [next((i for i, each in enumerate(given) if each is value), None) for value in values]
        return y, [value for value, number in zip(values, input_numbers, strict=True) if number is None]

    def backward(
        layers: jax.Array, place: jax.Array, x: jax.Array, kept: list[jax.Array], gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        given, rest = (row_of(layers, place), x), iter(kept)
        values = [next(rest) if number is None else given[number] for number in input_numbers]
        return jax.tree.unflatten(structure, values)(gradient)

    place, x = jax.ShapeDtypeStruct((), jnp.int32), _stream(model.config, batch)
    compiled_forward = compile_function(forward, layers, place, x)
    _, kept = compiled_forward.shapes
    return _LayerFunctions(compiled_forward, compile_function(backward, layers, place, x, kept, x))


def _is_kept(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in KEPT or primitive.name.startswith("cum")


@lru_cache(maxsize=64)
def _update_function(
    config: ModelConfig,
    batch: int,
    optimizer: optax.GradientTransformation,
    averaging: float,
    structure: Any,
    shapes: tuple[tuple[tuple[int, ...], str], ...],
) -> CompiledFunction:
    """Compile the function (state, gradients of `outside`, the rows and the embedded tokens, tokens) -> (state, norm).

    The given gradient of `outside` is only the head's part; the function adds the part of the embedding.

    Args:
        config: shape of the model.
        batch: number of token windows in a batch.
        optimizer: gradient transformation.
        averaging: exponent of the average of parameters.
        structure: pytree structure of the state.
        shapes: shape and dtype of each leaf of the state.
    """
    model = LanguageModel(config, block=None)

    def update(
        state: TrainState,
        outside_gradient: jax.Array,
        row_gradients: list[jax.Array],
        embedded_gradient: jax.Array,
        tokens: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        def embed(outside: jax.Array) -> jax.Array:
            return model.embed(outside_arrays(outside, config), tokens[:, :-1])

        _, gradient_of = jax.vjp(embed, state.parameters.outside)
        outside = outside_gradient + gradient_of(embedded_gradient)[0]
        gradients = FlatParameters(outside, jnp.stack(row_gradients))
        return update_state(state, gradients, optimizer, averaging)

    state = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes])
    rows = [jax.ShapeDtypeStruct(state.parameters.layers.shape[1:], jnp.float32)] * config.layers
    x, tokens = _stream(config, batch), _windows(config, batch)
    return compile_function(update, state, state.parameters.outside, rows, x, tokens, donate_argnums=0)


def clear_shared_functions() -> None:
    """Forget the compiled functions that models share, so that the next model compiles all its functions."""
    _outside_functions.cache_clear()
    _update_function.cache_clear()


def _sum_of_costs(functions: Iterable[CompiledFunction]) -> dict[str, float]:
    total: dict[str, float] = {}
    for function in functions:
        for name, count in function.cost.items():
            total[name] = total.get(name, 0.0) + count
    return total


def _stream(config: ModelConfig, batch: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a block's input."""
    return jax.ShapeDtypeStruct((batch, config.length, config.width), jnp.dtype(config.precision))


def _windows(config: ModelConfig, batch: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of token windows."""
    return jax.ShapeDtypeStruct((batch, config.length + 1), jnp.int32)
