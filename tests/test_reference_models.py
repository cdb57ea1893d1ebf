"""Compiled library programs equal the blocks that are written by hand, forward and in every gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.models.reference import REFERENCES, from_program, reference_block
from primer_search.primitives import library
from primer_search.primitives.canonical import build_graph
from primer_search.primitives.errors import UsageError

BLOCKS = pytest.mark.parametrize("name", REFERENCES)
UNIT, LENGTH = 8, 12
TOLERANCE = 1e-5
"""Largest difference in float32, relative to the array's largest entry."""


def assert_close(one: Any, other: Any, what: str) -> None:
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape, what
    error = np.abs(one - other).max() / np.abs(other).max()
    assert error <= TOLERANCE, f"{what} differs by {error:.2g} of its scale"


@BLOCKS
@pytest.mark.parametrize("parameters", ["initial", "random"])
def test_a_program_equals_the_block_written_by_hand_forward_and_in_every_gradient(
    name: str, parameters: str, rng: np.random.Generator
) -> None:
    block = compile_block(build_graph(library.get(name, UNIT)), UNIT)
    reference = reference_block(name, 8 * UNIT)
    own = block.init(rng) if parameters == "initial" else block.draw(rng)
    x, weights = rng.standard_normal((2, 2, LENGTH, 8 * UNIT)).astype(np.float32)

    def outputs(apply: Any) -> Any:
        def loss(p: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = apply(p, x)
            return jnp.sum(y * weights), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

    (_, y), (gradients, gradient_x) = outputs(block.apply)(own, x)
    (_, expected), (by_hand, by_hand_x) = outputs(reference.apply)(from_program(name, own), x)
    assert_close(y, expected, "the output")
    assert_close(gradient_x, by_hand_x, "the gradient of the input")
    converted = from_program(name, gradients)
    assert converted.keys() == by_hand.keys()
    for key in by_hand:
        assert_close(converted[key], by_hand[key], f"the gradient of {key}")


@BLOCKS
def test_both_have_the_same_parameters(name: str, rng: np.random.Generator) -> None:
    for unit in (1, 8):
        block = compile_block(build_graph(library.get(name, unit)), unit)
        converted = from_program(name, block.init(rng))
        reference = reference_block(name, 8 * unit)
        assert {key: leaf.shape for key, leaf in converted.items()} == reference.shapes()
        for drawn in (reference.init(rng), reference.draw(rng)):
            assert {key: leaf.shape for key, leaf in drawn.items()} == reference.shapes()
            assert all(leaf.dtype == np.float32 for leaf in drawn.values())


@BLOCKS
def test_both_start_with_parameters_of_the_same_size(name: str, rng: np.random.Generator) -> None:
    converted = from_program(name, compile_block(build_graph(library.get(name, 16)), 16).init(rng))
    initial = reference_block(name, 128).init(rng)
    for key, leaf in initial.items():
        np.testing.assert_allclose(converted[key].std(), leaf.std(), rtol=0.1, err_msg=key)
        np.testing.assert_allclose(converted[key].mean(), leaf.mean(), atol=0.01, err_msg=key)


@BLOCKS
def test_language_models_of_both_are_equal(name: str, rng: np.random.Generator) -> None:
    config = ModelConfig(layers=2, unit=4, length=10, vocabulary=300)
    compiled = language_model(build_graph(library.get(name, config.unit)), config)
    by_hand = LanguageModel(config, reference_block(name, config.width))
    parameters = compiled.init(rng)
    layers = [from_program(name, {k: leaf[layer] for k, leaf in parameters["blocks"].items()}) for layer in range(2)]
    converted = {**parameters, "blocks": {key: np.stack([layer[key] for layer in layers]) for key in layers[0]}}
    tokens = rng.integers(300, size=(2, 11)).astype(np.int32)
    losses = jax.jit(compiled.token_losses)(parameters, tokens)
    assert_close(losses, jax.jit(by_hand.token_losses)(converted, tokens), "the losses")


def test_a_block_nobody_wrote_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no block is written by hand for 'PRIMER'"):
        reference_block("PRIMER", 64)
    with pytest.raises(UsageError, match="width of the block TRANSFORMER is 60"):
        reference_block("TRANSFORMER", 60)
