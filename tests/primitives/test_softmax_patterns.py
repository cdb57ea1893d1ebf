"""Softmaxes are found, and computed from shifted scores: the same numbers, where plain ones would overflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.graphs.interpreter import evaluate, evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.graphs.softmax_patterns import softmax_exponentials
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble as assembled

UNIT, LENGTH = 2, 6


def assemble(main: str) -> DNA:
    return assembled({"main": main}, {"zero": 0.0}, (8,))


@pytest.mark.parametrize("name", library.names())
def test_every_attention_of_the_library_is_a_masked_softmax(name: str) -> None:
    graph = build_graph(library.get(name, UNIT), length_dependent=True)
    expected = [] if name == "TRANSFORMER_MESA" else [True]  # least squares instead of a softmax
    assert list(softmax_exponentials(graph).values()) == expected


def test_an_exponential_that_something_else_reads_is_left_alone() -> None:
    body = "e = EXP h0\ns = RED_SUM e\nq = DIVIDE e s\n"
    soft = assemble(body + "output = ADD q h0")
    assert list(softmax_exponentials(build_graph(soft)).values()) == [False]
    for other in ("output = ADD q e", "t = ADD s h0\noutput = ADD q t"):
        assert not softmax_exponentials(build_graph(assemble(body + other)))


def test_division_the_other_way_round_is_no_softmax() -> None:
    turned = assemble("e = EXP h0\ns = RED_SUM e\nq = DIVIDE s e\noutput = ADD q h0")
    assert not softmax_exponentials(build_graph(turned))


def test_the_shift_changes_nothing_but_rounding() -> None:
    graph = build_graph(library.get("TRANSFORMER", UNIT))
    parameters = draw_parameters(graph, UNIT, np.random.default_rng(0), LENGTH)
    x = np.random.default_rng(1).standard_normal((2, LENGTH, 8 * UNIT))
    with jax.enable_x64(True):
        learned = [{key: jnp.asarray(array) for key, array in each.items()} for each in parameters]
        shifted = evaluate(graph, learned, jnp.asarray(x), jnp, compile_block(graph, UNIT).shifts)
    np.testing.assert_allclose(np.asarray(shifted), evaluate_reference(graph, parameters, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_beyond_the_range_of_exp_stay_finite_with_finite_gradients(precision: str) -> None:
    graph = build_graph(library.get("PRIMER_EZ", UNIT))
    block = compile_block(graph, UNIT)
    parameters = {name: 30 * array for name, array in block.init(np.random.default_rng(0)).items()}
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, LENGTH, 8 * UNIT)), precision)

    def total(parameters: dict, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.tanh(block.apply(parameters, x).astype(jnp.float32)))

    value, gradients = jax.jit(jax.value_and_grad(total))(parameters, x)
    plain = evaluate(
        graph,
        [
            {spec.key: jnp.asarray(parameters[spec.name], precision) for spec in block.specs if spec.node == node}
            for node in range(len(graph.nodes))
        ],
        x,
        jnp,
    )
    assert not np.all(np.isfinite(np.asarray(plain, np.float32)))  # what it would be without the shift
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(gradients))
