"""Conjugate gradients for all positions equal exact solutions, in values, gradients, packed texts and decoding."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.functional.least_squares import apply_least_squares
from primer_search.primitives import build_graph
from primer_search.primitives.ops.least_squares import SOLVE_STEPS, least_squares
from primer_search.primitives.programs import library
from primer_search.tests.support.exported_programs import small_program

TOLERANCE = 1e-5
"""Of float32, relative to the largest entry."""

solve = partial(apply_least_squares, steps=SOLVE_STEPS)

SHAPES = {  # of queries, keys and ridge, without length and width
    "no branches": ((2,), (2,), ()),
    "branches": ((3, 2), (3, 2), (3,)),
    "keys that all branches share": ((3, 2), (2,), (3,)),
    "queries that the inner branches share": ((3, 1, 2), (3, 4, 2), (3, 4)),
}


def drawn(shapes: str, length: int, width: int, unit: bool = True) -> list[np.ndarray]:
    """Queries, keys and ridge; keys of length 1 if `unit`."""
    rng = np.random.default_rng(0)
    queries, keys, ridge = SHAPES[shapes]
    q, k = (rng.standard_normal((*axes, length, width)) for axes in (queries, keys))
    if unit:
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
    aligned = (*ridge, 1, width) if ridge else (width,)  # as the interpreter aligns parameters with the batch
    return [q, k, rng.standard_normal(aligned)]


def value_and_gradients(apply: Any, arrays: list[np.ndarray], dtype: Any, **given: Any) -> tuple[Any, Any]:
    weights = np.random.default_rng(1).standard_normal(arrays[0].shape[-2:])
    q, k, ridge = (jnp.asarray(array, dtype) for array in arrays)

    def output(q: jax.Array, k: jax.Array, ridge: jax.Array) -> jax.Array:
        return apply(jnp, [q, k], {"ridge": ridge}, 0.0, 1, **given)

    def total(*operands: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray(weights, dtype) * output(*operands))

    return jax.jit(output)(q, k, ridge), jax.jit(jax.grad(total, (0, 1, 2)))(q, k, ridge)


def check_equal(fast: tuple[Any, Any], exact: tuple[Any, Any], tolerance: float) -> None:
    for found, wanted in zip((fast[0], *fast[1]), (exact[0], *exact[1]), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=tolerance * float(np.abs(wanted).max()), rtol=0)


@pytest.mark.parametrize(
    ("shapes", "length", "width", "unit"),
    [
        *((shapes, 70, 8, True) for shapes in SHAPES),
        *(("branches", length, width, True) for length, width in ((1, 4), (70, 40))),
        *(("no branches", 2 * width, width, False) for width in (8, 64)),
        *(pytest.param("no branches", 2 * width, width, False, marks=pytest.mark.slow) for width in (16, 32)),
    ],
)
def test_values_and_gradients_are_those_of_exact_solutions(shapes: str, length: int, width: int, unit: bool) -> None:
    arrays = drawn(shapes, length, width, unit)
    fast = value_and_gradients(solve, arrays, jnp.float32)
    with jax.enable_x64(True):
        check_equal(fast, value_and_gradients(least_squares, arrays, jnp.float64), TOLERANCE)
    np.testing.assert_allclose(
        fast[0], least_squares(np, arrays[:2], {"ridge": arrays[2]}, 0.0, 1), atol=TOLERANCE * np.abs(fast[0]).max()
    )


def test_the_solution_of_a_position_does_not_depend_on_later_ones_or_other_sequences() -> None:
    q, k, ridge = (array.astype(np.float32) for array in drawn("no branches", 64, 16))
    solved = jax.jit(lambda k: solve(jnp, [q, k], {"ridge": ridge}, 0.0, 1))
    later, other = k.copy(), k.copy()
    later[:, 32:] *= 30  # these positions take many more steps
    other[0] *= 30
    assert len(k) > 1
    np.testing.assert_array_equal(solved(later)[:, :32], solved(k)[:, :32])
    np.testing.assert_array_equal(solved(other)[1:], solved(k)[1:])


def test_fewer_steps_are_further_from_the_solution() -> None:
    arrays = drawn("no branches", 70, 40)
    exact = least_squares(np, arrays[:2], {"ridge": arrays[2]}, 0.0, 1)
    q, k, ridge = (np.float32(array) for array in arrays)
    in_steps = jax.jit(
        lambda steps: apply_least_squares(jnp, [q, k], {"ridge": ridge}, 0.0, 1, steps=steps), static_argnums=0
    )
    errors = [np.abs(in_steps(steps) - exact).max() for steps in (1, 3, 6, 12)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 100 * errors[-1]


@pytest.mark.parametrize("shapes", ["no branches", "keys that all branches share"])
def test_packed_texts_are_solved_apart(shapes: str) -> None:
    texts = np.cumsum(np.random.default_rng(2).random((2, 140)) < 0.05, axis=1, dtype=np.int32)
    arrays = drawn(shapes, 140, 8)
    fast = value_and_gradients(solve, arrays, jnp.float32, texts=texts)
    with jax.enable_x64(True):
        check_equal(fast, value_and_gradients(least_squares, arrays, jnp.float64, texts=texts), TOLERANCE)


def test_a_continued_sequence_is_solved_with_the_sum_before_it() -> None:
    q, k, ridge = drawn("branches", 90, 8)
    texts = np.repeat([[0] * 30 + [1] * 60], 2, axis=0)
    before = np.swapaxes(k[..., :20, :], -1, -2) @ k[..., :20, :]
    exact = least_squares(np, [q, k], {"ridge": ridge}, 0.0, 1, texts=texts)
    later = [x[..., 20:, :].astype(np.float32) for x in (q, k)]
    found = solve(jnp, later, {"ridge": ridge}, 0.0, 1, jnp.asarray(texts[:, 19:]), before.astype(np.float32))
    np.testing.assert_allclose(found, exact[..., 20:, :], atol=TOLERANCE * np.abs(exact).max())


@pytest.mark.parametrize("scale", [0.0, 1e-15, 1e15])
def test_right_hand_sides_of_any_size_are_solved(scale: float) -> None:
    q, k, ridge = drawn("no branches", 20, 8)
    found = solve(jnp, [np.float32(scale * q), np.float32(k)], {"ridge": ridge}, 0.0, 1)
    exact = scale * least_squares(np, [q, k], {"ridge": ridge}, 0.0, 1)
    np.testing.assert_allclose(found, exact, atol=TOLERANCE * np.abs(exact).max())


def test_the_memory_of_training_does_not_grow_with_the_square_of_the_width() -> None:
    """A matrix for each position would take length x width^2: here 64 times the arrays of the sequence."""
    shape = jax.ShapeDtypeStruct((1, 4096, 64), jnp.float32)

    def total(q: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(solve(jnp, [q, k], {"ridge": jnp.ones(64)}, 0.0, 1))

    memory = jax.jit(jax.grad(total, (0, 1))).lower(shape, shape).compile().memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < 32 * 4 * 4096 * 64


def test_half_precision_is_solved_in_float32() -> None:
    q, k, ridge = drawn("branches", 70, 8)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k)]
    found = solve(jnp, half, {"ridge": jnp.asarray(ridge, jnp.bfloat16)}, 0.0, 1)
    assert found.dtype == jnp.bfloat16
    exact = least_squares(np, [np.asarray(x, np.float64) for x in half], {"ridge": ridge}, 0.0, 1)
    np.testing.assert_allclose(found.astype(np.float32), exact, atol=0.02 * np.abs(exact).max())


def test_a_compiled_block_solves_by_conjugate_gradients_and_equals_its_primitives() -> None:
    graph = build_graph(library.get("TRANSFORMER_MESA", 2, 2))
    fast, plain = compile_block(graph, 2), compile_block(graph, 2, fused=False)
    coarse = compile_block(graph, 2, solve_steps=1)
    parameters = fast.init(np.random.default_rng(0))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 40, 16)), jnp.float32)
    quick, exact, rough = jax.jit(lambda x: [block.apply(parameters, x) for block in (fast, plain, coarse)])(x)
    np.testing.assert_allclose(quick, exact, atol=2e-5)
    assert jnp.abs(rough - exact).max() > 1e-3


def test_decoding_equals_the_whole_also_where_conjugate_gradients_do_not_converge() -> None:
    graph = build_graph(small_program("a = CONV_1X1 h0 width=16\nb = CONV_1X1 h0 width=16\ny = LEAST_SQUARES a b"))
    block = compile_block(graph, 4, solve_steps=3)
    parameters = block.init(np.random.default_rng(0))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 12, 32)), jnp.float32)

    def run(x: jax.Array) -> Any:
        pieces, cache = [], block.init_cache(2, 12)
        for begin, end in ((0, 5), (5, 6), (6, 12)):
            piece, cache = block.decode(parameters, cache, x[:, begin:end])
            pieces.append(piece)
        return block.apply(parameters, x), jnp.concatenate(pieces, axis=1), cache

    whole, decoded, cache = jax.jit(run)(x)
    np.testing.assert_allclose(decoded, whole, atol=1e-5)
    assert cache["state"]["least_squares"].shape == (2, 64, 64)
