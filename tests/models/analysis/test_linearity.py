"""The linearity score, beside a least-squares solver, and the residual stream that it is computed from."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.models.analysis.linearity import (
    LinearMap,
    Moments,
    add_moments,
    block_moments,
    fit_linear_map,
    linearity_score,
    moments,
)
from primer_search.models.analysis.residual_stream import LayerChange, make_changed_layer_losses, residual_stream
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get
from primer_search.tests.support.tiny_weights import SHAPE, drawn_weights

LINEAR = assemble({"main": "moved = CONV_1X1 h0 width=8\nbent = SHIFT moved\noutput = ADD bent h0"}, {}, (8,))
"""A block that is a linear map with an offset."""


def score_by_least_squares(x: np.ndarray, y: np.ndarray, x_scored: np.ndarray, y_scored: np.ndarray) -> float:
    """The definition, with NumPy's solver: fit with a column of ones, predict, divide by the variance."""
    solution, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    predicted = np.column_stack([x_scored, np.ones(len(x_scored))]) @ solution
    return 1.0 - np.sum((predicted - y_scored) ** 2) / np.sum((y_scored - y_scored.mean(0)) ** 2)


def drawn_layer(rng: np.random.Generator, tokens: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((tokens, width)) * rng.uniform(0.1, 3.0, width) + rng.standard_normal(width)
    return x, x + np.tanh(x @ rng.standard_normal((width, width))) + noise * rng.standard_normal((tokens, width)) + 2.0


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 12), noise=st.sampled_from([0.0, 0.3, 3.0]))
def test_the_score_is_that_of_a_least_squares_solver(seed: int, width: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    (x, x_scored), (y, y_scored) = (np.split(each, [300]) for each in drawn_layer(rng, 500, width, noise))
    fitted, scored = moments(x, y), moments(x_scored, y_scored)
    expected = score_by_least_squares(x, y, x_scored, y_scored)
    assert linearity_score(fit_linear_map(fitted), scored) == pytest.approx(expected, abs=1e-9)
    fitted, scored = block_moments(fitted), block_moments(scored)
    expected = score_by_least_squares(x, y - x, x_scored, y_scored - x_scored)
    assert linearity_score(fit_linear_map(fitted), scored) == pytest.approx(expected, abs=1e-8)


def test_on_the_text_of_the_fit_it_is_the_score_of_the_paper(rng: np.random.Generator) -> None:
    x, y = drawn_layer(rng, 100, 5, 0.5)
    centered = [(each - each.mean(0)) / np.linalg.norm(each - each.mean(0)) for each in (x, y)]
    solution, (*_,), *_ = np.linalg.lstsq(*centered, rcond=None)
    expected = 1.0 - np.linalg.norm(centered[0] @ solution - centered[1]) ** 2
    assert linearity_score(fit_linear_map(moments(x, y)), moments(x, y)) == pytest.approx(expected, abs=1e-12)


def test_directions_that_the_inputs_lack_are_cut(rng: np.random.Generator) -> None:
    x = np.repeat(rng.standard_normal((200, 3)), 2, axis=1)
    y = x[:, :4] @ rng.standard_normal((4, 6)) + 1e-3 * rng.standard_normal((200, 6))
    linear = fit_linear_map(moments(x, y))
    assert linear.rank == 3
    expected, *_ = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)  # the smallest solution
    np.testing.assert_allclose(linear.matrix, expected, atol=1e-9)


def test_moments_add_up(rng: np.random.Generator) -> None:
    x, y = drawn_layer(rng, 90, 4, 0.5)
    parts = add_moments(moments(x[:40], y[:40]), moments(x[40:], y[40:]))
    whole = moments(x, y)
    for name in Moments.__slots__:
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)


def test_a_constant_output_has_no_score(rng: np.random.Generator) -> None:
    scored = moments(rng.standard_normal((50, 3)), np.zeros((50, 3)))
    assert np.isnan(linearity_score(fit_linear_map(scored), scored))


# --- models -------------------------------------------------------------------------------------------------------


def drawn_model(name: str, layers: int, **changes: object) -> tuple[LanguageModel, dict]:
    shape = replace(SHAPE, layers=layers, unit=2, **changes)
    weights = drawn_weights(LINEAR if name == "LINEAR" else get(name, 2), shape)
    return language_model(weights.graph, weights.model), weights.parameters


@pytest.mark.parametrize(("layers", "precision"), [(2, "float32"), (6, "float32"), (2, "bfloat16")])
def test_the_residual_stream_ends_in_the_logits_of_the_model(
    layers: int, precision: str, rng: np.random.Generator
) -> None:
    model, parameters = drawn_model("PRIMER_EZ", layers, precision=precision)
    tokens = jnp.asarray(rng.integers(0, 300, (3, 8)))
    stream = jax.jit(partial(residual_stream, model))(parameters, tokens)
    assert stream.shape == (layers + 1, 3, 8, 16)
    assert stream.dtype == jnp.float32
    np.testing.assert_array_equal(stream[0], model.embed(parameters, tokens).astype(jnp.float32))
    last = model.head(parameters, stream[-1].astype(jnp.dtype(precision)))
    logits = jax.jit(model.logits)(parameters, tokens)
    np.testing.assert_allclose(last, logits, atol=1e-4 if precision == "float32" else 0.3)


def test_a_linear_layer_has_the_score_one_with_and_without_residual(rng: np.random.Generator) -> None:
    model, parameters = drawn_model("LINEAR", 2)
    stream = np.asarray(residual_stream(model, parameters, jnp.asarray(rng.integers(0, 300, (60, 8)))))
    halves = [moments(*(half.reshape(-1, 16) for half in part)) for part in (stream[:2, :30], stream[:2, 30:])]
    assert linearity_score(fit_linear_map(halves[0]), halves[1]) == pytest.approx(1.0, abs=1e-9)
    blocks = [block_moments(half) for half in halves]
    assert linearity_score(fit_linear_map(blocks[0]), blocks[1]) == pytest.approx(1.0, abs=1e-9)


def test_a_layer_is_removed_or_replaced(rng: np.random.Generator) -> None:
    model, parameters = drawn_model("PRIMER_EZ", 3)
    tokens = rng.integers(0, 300, (4, 9))
    losses = make_changed_layer_losses(model, parameters)
    np.testing.assert_allclose(
        losses(tokens, 1, LayerChange.NONE, None), model.token_losses(parameters, jnp.asarray(tokens)), atol=1e-5
    )
    shorter = LanguageModel(replace(model.config, layers=2), model.block)
    kept = {**parameters, "blocks": {name: array[[0, 2]] for name, array in parameters["blocks"].items()}}
    expected = shorter.token_losses(kept, jnp.asarray(tokens))
    np.testing.assert_allclose(losses(tokens, 1, LayerChange.REMOVED, None), expected, atol=1e-5)
    identity = LinearMap(np.eye(16), np.zeros(16), 16)
    np.testing.assert_allclose(losses(tokens, 1, LayerChange.LINEARIZED, identity), expected, atol=1e-5)


def test_a_linear_layer_can_be_replaced_by_its_map(rng: np.random.Generator) -> None:
    model, parameters = drawn_model("LINEAR", 2)
    tokens = rng.integers(0, 300, (60, 9))
    stream = np.asarray(residual_stream(model, parameters, jnp.asarray(tokens[:, :-1])))
    linear = fit_linear_map(moments(stream[1].reshape(-1, 16), stream[2].reshape(-1, 16)))
    losses = make_changed_layer_losses(model, parameters)
    unchanged, replaced = losses(tokens, 1, LayerChange.NONE, None), losses(tokens, 1, LayerChange.LINEARIZED, linear)
    np.testing.assert_allclose(replaced, unchanged, atol=1e-3)


def test_the_graph_of_the_linear_block_is_linear() -> None:
    assert {node.op for node in build_graph(LINEAR).nodes} == {"INPUT", "CONV_1X1", "SHIFT", "ADD"}
