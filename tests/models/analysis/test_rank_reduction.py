"""Reduced ranks beside NumPy's decomposition, and kernels as the matrices that they are in the model."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.models.analysis.projections import Projection, find_projections
from primer_search.models.analysis.rank_reduction import decompose, rank_at
from primer_search.models.analysis.token_scores import make_token_scorer
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get
from primer_search.tests.support.tiny_runs import BASELINE
from primer_search.tests.support.tiny_weights import drawn_weights

shapes = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@given(shape=shapes, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_error_of_a_rank_is_that_of_eckart_and_young(
    shape: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    matrices = np.random.default_rng(seed).standard_normal(shape)
    found = decompose(matrices)
    rank = data.draw(st.integers(1, found.largest_rank))
    reduced = found.factors(rank).product
    values = np.linalg.svd(matrices, compute_uv=False)
    for matrix, approximation, own in zip(matrices, reduced, values, strict=True):
        assert np.linalg.matrix_rank(approximation) <= rank
        assert np.linalg.norm(matrix - approximation) ** 2 == pytest.approx(np.sum(own[rank:] ** 2), abs=1e-9)
    error = np.linalg.norm(matrices - reduced) / np.linalg.norm(matrices)
    assert found.relative_error(rank) == pytest.approx(error, abs=1e-9)


def test_the_approximation_is_that_of_numpy(rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((20, 30))
    u, values, v = np.linalg.svd(matrix)
    expected = u[:, :7] @ np.diag(values[:7]) @ v[:7]
    np.testing.assert_allclose(decompose(matrix[None]).factors(7).product[0], expected, atol=1e-12)


@given(shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_the_full_rank_changes_nothing(shape: tuple[int, int, int], seed: int) -> None:
    matrices = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    found = decompose(matrices)
    whole = found.factors(found.largest_rank)
    np.testing.assert_allclose(whole.product, matrices, atol=1e-6)
    assert found.relative_error(found.largest_rank) == 0.0


def test_a_rank_outside_the_matrix_is_refused() -> None:
    found = decompose(np.ones((1, 3, 4)))
    for rank in (0, 4):
        with pytest.raises(ValueError, match=f"rank is {rank}, but must be from 1 to 3"):
            found.factors(rank)


def test_shares_are_rounded_down_as_in_the_paper_to_at_least_one() -> None:
    assert [rank_at(share, 128) for share in (1.0, 0.9, 0.5, 0.29, 0.01, 0.001)] == [128, 115, 64, 37, 1, 1]
    assert rank_at(0.29, 100) == 29  # 0.29 * 100 is 28.999999999999996


# --- matrices of programs -----------------------------------------------------------------------------------------


def test_heads_that_share_an_input_are_one_matrix() -> None:
    found = {each.title: each for each in find_projections(build_graph(get("PRIMER_EZ", 4, 8)), 4)}
    heads = found["self_attention.head_projection.conv_1x1"]
    assert (heads.shape, heads.matrices, heads.largest_rank) == ((8, 32, 4), (1, 32, 32), 32)
    assert found["feed_forward.conv_1x1"].matrices == (1, 32, 128)
    assert heads.parameters_at(4) == 4 * (32 + 32)
    assert heads.parameters_at(20) == 32 * 32


def test_heads_with_inputs_of_their_own_have_matrices_of_their_own() -> None:
    found = {each.title: each for each in find_projections(build_graph(get("PRIMER", 4, 8)), 4)}
    keys = found["self_attention.conv_1x1"]  # reads the queries of its head
    assert (keys.shape, keys.matrices) == ((8, 4, 4), (8, 4, 4))
    assert keys.parameters_at(1) == 8 * 1 * (4 + 4)


NESTED = assemble(
    {
        "main": "outer = outer_call h0 branches=2\noutput = ADD outer h0",
        "outer_call": "own = CONV_1X1 h0 width=8\nbent = TANH own\ninner = inner_call bent branches=2\n"
        "output = ADD inner bent",
        "inner_call": "first = CONV_1X1 h0 width=8\nbent = SIN first\noutput = CONV_1X1 bent width=8",
    },
    {},
    (8,),
)


def test_a_kernel_is_its_matrices_applied_to_its_inputs(rng: np.random.Generator) -> None:
    found = {each.title: each for each in find_projections(build_graph(NESTED), 4)}
    outer, first, second = found.values()
    assert [each.own_inputs for each in found.values()] == [(), (0,), (0, 1)]
    kernel = rng.standard_normal(first.shape)
    x = rng.standard_normal((first.shape[0], 5, first.shape[2]))  # an input for each outer branch
    by_branches = np.einsum("oti,onik->otnk", x, kernel).reshape(first.shape[0], 5, -1)
    np.testing.assert_allclose(x @ first.to_matrices(kernel), by_branches, atol=1e-12)
    for each in (outer, first, second):
        kernel = rng.standard_normal(each.shape)
        assert each.to_matrices(kernel).shape == each.matrices
        np.testing.assert_array_equal(each.from_matrices(each.to_matrices(kernel)), kernel)


def test_axes_of_branches_with_own_inputs_may_come_after_others(rng: np.random.Generator) -> None:
    projection = Projection("kernel", (2, 3, 4, 5), own_inputs=(1,))
    kernel = rng.standard_normal(projection.shape)
    x = rng.standard_normal((3, 7, 4))
    expected = np.einsum("bti,abik->btak", x, kernel).reshape(3, 7, -1)
    np.testing.assert_allclose(x @ projection.to_matrices(kernel), expected, atol=1e-12)
    np.testing.assert_array_equal(projection.from_matrices(projection.to_matrices(kernel)), kernel)


def test_the_scorer_gives_losses_and_hits_of_every_token(rng: np.random.Generator) -> None:
    weights = drawn_weights(BASELINE)
    model = language_model(weights.graph, weights.model)
    batches = rng.integers(0, 300, (2, 3, 9))
    found = make_token_scorer(model)(weights.parameters, batches)
    flat = jnp.asarray(batches.reshape(6, 9))
    np.testing.assert_allclose(found.losses, model.token_losses(weights.parameters, flat), atol=1e-5)
    likeliest = np.argmax(model.logits(weights.parameters, flat[:, :-1]), axis=-1)
    np.testing.assert_array_equal(found.correct, likeliest == flat[:, 1:])
    assert found.loss_nats == pytest.approx(float(np.mean(found.losses)))
    assert 0.0 <= found.accuracy <= 1.0
