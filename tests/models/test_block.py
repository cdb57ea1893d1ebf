"""A compiled program is its program: equal to the NumPy reference, jitted or not, alone or stacked in a model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameter, draw_parameters
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import DNA
from primer_search.tests.support.small_models import VOCABULARY, small_model
from primer_search.tests.support.strategies import mutants, random_dna

UNIT, LENGTH = 8, 6
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
PROGRAMS = pytest.mark.parametrize("name", library.names())


def assert_equals_reference(graph: Graph, unit: int, rng: np.random.Generator, jit: bool) -> bool:
    """The compiled block equals the NumPy interpreter in float64; False where there is nothing to compare."""
    block = compile_block(graph, unit, LENGTH)
    by_node = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((2, LENGTH, 8 * unit))
    expected = evaluate_reference(graph, by_node, x)
    nudged = evaluate_reference(graph, by_node, x * (1 + 1e-14 * rng.standard_normal(x.shape)))
    size = np.abs(expected).max(initial=1e-300)
    with np.errstate(invalid="ignore"):
        chaos = np.abs(nudged - expected).max() / size
    if not chaos < 1e-9:  # not finite, or it turns rounding into a difference
        return False
    with jax.enable_x64(True):
        parameters = {spec.name: jnp.asarray(by_node[spec.node][spec.key]) for spec in block.specs}
        apply = jax.jit(block.apply, compiler_options=QUICK) if jit else block.apply
        output = np.asarray(apply(parameters, jnp.asarray(x)))
    assert output.dtype == np.float64
    np.testing.assert_allclose(output, expected, rtol=0, atol=(1e-11 + 1e3 * chaos) * size)
    return True


@PROGRAMS
def test_a_library_program_equals_the_numpy_interpreter(name: str, rng: np.random.Generator) -> None:
    assert assert_equals_reference(build_graph(library.get(name, UNIT)), UNIT, rng, jit=True)


@pytest.mark.parametrize("name", ["TRANSFORMER_PP", "PRIMER"])
def test_without_jit_it_equals_the_numpy_interpreter_too(name: str, rng: np.random.Generator) -> None:
    assert assert_equals_reference(build_graph(library.get(name, UNIT)), UNIT, rng, jit=False)


@pytest.mark.parametrize("kind", ["short random programs", "mutants"])
def test_random_programs_equal_the_numpy_interpreter(kind: str, rng: np.random.Generator) -> None:
    if kind == "mutants":
        families = (mutants(rng, library.get(name), 3) for name in library.names() * 10)
        programs: Iterator[DNA] = chain.from_iterable(families)
        wanted = 20
    else:
        programs = (random_dna(rng, 2, 5, branches=(1, 1, 2)) for _ in range(1000))
        wanted = 40
    compared: set[str] = set()
    for dna in programs:
        try:
            graph = build_graph(dna, length_dependent=True)
            compile_block(graph, 4, LENGTH)
        except InvalidProgramError:
            continue
        if graph.structure_hash not in compared and assert_equals_reference(graph, 4, rng, jit=True):
            compared.add(graph.structure_hash)
        if len(compared) == wanted:
            return
    pytest.fail(f"only {len(compared)} of the programs could be compared")


@PROGRAMS
def test_float32_is_near_the_float64_reference(name: str, rng: np.random.Generator) -> None:
    graph = build_graph(library.get(name, 8))
    block = compile_block(graph, 8, LENGTH)
    parameters = block.init(rng)
    by_node: list[dict[str, np.ndarray]] = [{} for _ in graph.nodes]
    for spec in block.specs:
        by_node[spec.node][spec.key] = parameters[spec.name].astype(np.float64)
    x = rng.standard_normal((2, LENGTH, 64)).astype(np.float32)
    output = jax.jit(block.apply, compiler_options=QUICK)(parameters, x)
    assert output.dtype == jnp.float32
    np.testing.assert_allclose(output, evaluate_reference(graph, by_node, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ", "PRIMER"])
def test_bfloat16_runs_and_is_near_float32(name: str, rng: np.random.Generator) -> None:
    block = compile_block(build_graph(library.get(name, 8)), 8, LENGTH)
    parameters = block.init(rng)
    x = jnp.asarray(rng.standard_normal((2, LENGTH, 64)), jnp.bfloat16)
    output = jax.jit(block.apply, compiler_options=QUICK)(parameters, x)
    assert output.dtype == jnp.bfloat16
    exact = np.asarray(jax.jit(block.apply, compiler_options=QUICK)(parameters, x.astype(jnp.float32)))
    error = np.sqrt(np.mean(np.square(np.asarray(output, np.float32) - exact)))
    assert error < 0.1 * np.sqrt(np.mean(np.square(exact)))


@PROGRAMS
def test_initial_and_drawn_parameters_have_the_declared_shapes(name: str, rng: np.random.Generator) -> None:
    block = compile_block(build_graph(library.get(name, 8)), 8, LENGTH)
    shapes = {spec.name: spec.shape for spec in block.specs}
    assert len(shapes) == len(block.specs)
    for parameters in (block.init(rng), block.draw(rng)):
        assert {key: leaf.shape for key, leaf in parameters.items()} == shapes
        assert all(leaf.dtype == np.float32 for leaf in parameters.values())


def test_initial_values_are_those_of_the_paper(rng: np.random.Generator) -> None:
    block = compile_block(build_graph(library.PRIMER_EZ), 16)
    parameters = block.init(rng)
    taps = parameters["self_attention.head_projection.dconv_3x1.kernel"]
    np.testing.assert_allclose(taps, np.broadcast_to([[0.5 / 3], [0.5 / 3], [0.5]], taps.shape))
    kernel = parameters["feed_forward.conv_1x1.kernel"]
    assert kernel.std() * np.sqrt(kernel.shape[0]) == pytest.approx(1, rel=0.05)
    assert (parameters["layer_norm.scale_shift.scale.scale"] == 1).all()
    assert (parameters["layer_norm.scale_shift.shift.bias"] == 0).all()


def test_drawn_parameters_are_neither_zero_nor_one(rng: np.random.Generator) -> None:
    for spec in compile_block(build_graph(library.PRIMER), 16, LENGTH).specs:
        value = draw_parameter(spec, rng)
        assert not np.any(value == 0) and not np.any(value == 1)


# --- the language model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ", "PRIMER"])
def test_scanned_and_unrolled_stacks_are_equal(name: str, rng: np.random.Generator) -> None:
    unrolled, scanned = (small_model(name, layers=3, stack=stack) for stack in ("unroll", "scan"))
    parameters = unrolled.draw(rng)
    tokens = rng.integers(VOCABULARY, size=(2, 8)).astype(np.int32)
    one, other = (np.asarray(jax.jit(model.logits)(parameters, tokens)) for model in (unrolled, scanned))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("name", ["TRANSFORMER", "TRANSFORMER_PP", "PRIMER_EZ", "PRIMER"])
def test_the_language_model_is_causal_by_gradients(name: str, rng: np.random.Generator) -> None:
    model = small_model(name)
    parameters = model.draw(rng)
    tokens = rng.integers(VOCABULARY, size=(1, 8)).astype(np.int32)
    position = 5

    def prediction(nudge: jax.Array) -> jax.Array:
        # Each token gets an embedding of its own, at the end of the table, so that its gradient is the position's.
        table = jnp.concatenate([parameters["embedding"], parameters["embedding"][tokens[0]] + nudge])
        own = VOCABULARY + jnp.arange(8)[None]
        return jnp.sum(jnp.square(model.logits({**parameters, "embedding": table}, own)[0, position, :VOCABULARY]))

    gradient = np.abs(jax.jit(jax.grad(prediction))(jnp.zeros((8, 16)))).max(axis=1)
    assert (gradient[: position + 1] > 0).all()
    assert (gradient[position + 1 :] == 0).all()


@pytest.mark.parametrize("name", ["TRANSFORMER_PP", "PRIMER_EZ"])
def test_a_text_cut_short_has_the_logits_that_it_has_within_the_whole(name: str, rng: np.random.Generator) -> None:
    model = small_model(name)
    parameters = model.draw(rng)
    tokens = rng.integers(VOCABULARY, size=(2, 8)).astype(np.int32)
    logits = jax.jit(model.logits, compiler_options=QUICK)
    whole = np.asarray(logits(parameters, tokens))
    for length in (1, 4, 7):
        cut = logits(parameters, tokens[:, :length])
        np.testing.assert_allclose(cut, whole[:, :length], rtol=1e-4, atol=1e-4 * np.abs(whole).max())


def test_a_loss_is_the_negative_log_likelihood_of_the_next_token(rng: np.random.Generator) -> None:
    model = small_model("TRANSFORMER")
    parameters = model.init(rng)
    tokens = rng.integers(VOCABULARY, size=(2, 9)).astype(np.int32)
    logits = np.asarray(jax.jit(model.logits)(parameters, tokens[:, :-1]), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probabilities, tokens[:, 1:, None], axis=-1))[..., 0]
    losses = jax.jit(model.token_losses)(parameters, tokens)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-4)


def test_a_model_in_bfloat16_keeps_its_logits_in_float32(rng: np.random.Generator) -> None:
    model = small_model("PRIMER_EZ", precision="bfloat16")
    logits = jax.jit(model.logits)(model.init(rng), np.zeros((1, 8), np.int32))
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
