"""Fused functions give the values and gradients of the primitives that they replace."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.functional.fused_idioms import FUSED, fused_groups
from primer_search.primitives import build_graph
from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.graphs.idioms import IdiomKind, find_idioms
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble

UNIT, LENGTH = 2, 6
WIDTH = 8 * UNIT
TOLERANCE = 1e-5

SCORES = "scores = T_MAT_MUL h0 h0\n        positive = EXP scores"
PROGRAMS = {
    IdiomKind.LAYER_NORM: """
        mean = RED_MEAN h0
        centred = DIFFERENCE h0 mean
        square = SQUARE centred
        variance = RED_MEAN square
        deviation = ABS_ROOT variance
        output = DIVIDE centred deviation
    """,
    IdiomKind.RMS_NORM: """
        square = SQUARE h0
        mean = RED_MEAN square
        root = ABS_ROOT mean
        output = DIVIDE h0 root
    """,
    IdiomKind.SOFTMAX: f"""
        {SCORES}
        total = RED_SUM positive
        weights = DIVIDE positive total
        output = MAT_MUL weights h0
    """,
    IdiomKind.CAUSAL_SOFTMAX: f"""
        {SCORES}
        masked = MASK positive
        total = RED_SUM masked
        weights = DIVIDE masked total
        output = MAT_MUL weights h0
    """,
}
INPUTS: dict[str, Any] = {
    "normal": lambda x: x,
    "large": lambda x: 1e6 * x,  # scores far beyond the range of exp
    "small": lambda x: 1e-9 * x,  # below the guard of DIVIDE
    "zero": lambda x: 0 * x,
    "one value a row": lambda x: x[..., :1] + 0 * x,
}


def graph_of(kind: IdiomKind) -> Graph:
    return build_graph(assemble({"main": PROGRAMS[kind]}, {}, (8,)))


@pytest.mark.parametrize("kind", IdiomKind)
def test_the_idiom_is_fused_if_it_has_a_function(kind: IdiomKind) -> None:
    assert set(PROGRAMS) == set(FUSED)
    if kind in FUSED:
        assert [idiom.kind for idiom in find_idioms(graph_of(kind)).values()] == [kind]
        assert len(fused_groups(graph_of(kind))) == 1


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_values_and_gradients_are_those_of_the_primitives(kind: IdiomKind, inputs: str) -> None:
    graph, x = graph_of(kind), np.random.default_rng(0).standard_normal((2, LENGTH, WIDTH))
    x = jnp.asarray(INPUTS[inputs](x), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape), jnp.float32)

    def total(x: jax.Array, fused: bool) -> jax.Array:
        return jnp.sum(weights * compile_block(graph, UNIT, fused=fused).apply({}, x))

    for function in (total, jax.grad(total)):
        expected, fused = (np.asarray(jax.jit(function, static_argnums=1)(x, fused)) for fused in (False, True))
        assert np.all(np.isfinite(expected))
        np.testing.assert_allclose(fused, expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


def test_a_later_position_changes_nothing_even_if_it_overflows() -> None:
    block = compile_block(graph_of(IdiomKind.CAUSAL_SOFTMAX), UNIT)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, LENGTH, WIDTH)), jnp.float32)
    for later in (1e30, jnp.inf, jnp.nan):
        scores = jnp.asarray(np.random.default_rng(1).standard_normal((1, LENGTH, LENGTH)), jnp.float32)
        changed = FUSED[IdiomKind.CAUSAL_SOFTMAX](scores.at[:, :-1, -1].set(later))
        np.testing.assert_array_equal(changed, FUSED[IdiomKind.CAUSAL_SOFTMAX](scores))
        assert np.all(np.triu(np.asarray(changed)[0], 1) == 0)
    assert np.all(np.isfinite(block.apply({}, x)))


def test_nothing_is_fused_when_it_is_switched_off_or_values_are_recorded() -> None:
    graph = build_graph(library.get("TRANSFORMER", UNIT))
    block, plain = compile_block(graph, UNIT), compile_block(graph, UNIT, fused=False)
    assert len(block.fused) == 3 and not plain.fused  # two norms and a softmax
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, LENGTH, WIDTH)), jnp.float32)
    parameters, values = block.init(np.random.default_rng(0)), []
    recorded = block.apply(parameters, x, values.append)
    assert len(values) == len(graph.nodes)
    np.testing.assert_array_equal(recorded, plain.apply(parameters, x))
