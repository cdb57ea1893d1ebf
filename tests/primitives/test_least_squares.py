"""LEAST_SQUARES is the least squares of the papers, position by position (arXiv 2309.05858 and 2506.05233)."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.primitives import build_graph
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.ops.least_squares import RIDGE_START, least_squares, ridge_of
from primer_search.tests.support.exported_programs import small_program

BATCH, LENGTH, WIDTH = 2, 12, 5


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, k = rng.standard_normal((2, BATCH, LENGTH, WIDTH))
    return q, k, rng.standard_normal(WIDTH)


def solved(q: np.ndarray, k: np.ndarray, parameter: np.ndarray, **given: np.ndarray) -> np.ndarray:
    return least_squares(np, [q, k], {"ridge": parameter}, 0.0, 1, **given)


def test_each_position_solves_its_own_system(rng: np.random.Generator) -> None:
    q, k, parameter = drawn(rng)
    ridge = np.diag(np.log1p(np.exp(parameter)) + 0.25)
    found = solved(q, k, parameter)
    for sequence in range(BATCH):
        for t in range(LENGTH):
            past = k[sequence, : t + 1]
            wanted = np.linalg.inv(past.T @ past + ridge) @ q[sequence, t]
            np.testing.assert_allclose(found[sequence, t], wanted, rtol=1e-9, atol=1e-12)


def test_the_product_with_the_values_is_ridge_regression_on_the_prefix(rng: np.random.Generator) -> None:
    """out_t = Phi_t q_t, Phi_t = argmin 1/2 sum |v_s - Phi k_s|^2 + ridge/2 |Phi|^2 (arXiv 2309.05858)."""
    q, k, _ = drawn(rng)
    v = rng.standard_normal((BATCH, LENGTH, 3))
    scores = np.tril(solved(q, k, np.full(WIDTH, RIDGE_START)) @ np.swapaxes(k, -1, -2))
    found = scores @ v
    for sequence in range(BATCH):
        for t in range(LENGTH):
            # the ridge as more rows of the regression
            inputs = np.concatenate([k[sequence, : t + 1], np.eye(WIDTH)])
            targets = np.concatenate([v[sequence, : t + 1], np.zeros((WIDTH, 3))])
            phi = np.linalg.lstsq(inputs, targets, rcond=None)[0]
            np.testing.assert_allclose(found[sequence, t], q[sequence, t] @ phi, rtol=1e-8, atol=1e-10)


def test_the_recursion_of_sherman_and_morrison_gives_the_same(rng: np.random.Generator) -> None:
    q, k, parameter = drawn(rng)
    found = solved(q, k, parameter)
    for sequence in range(BATCH):
        inverse = np.diag(1 / ridge_of(np, parameter))
        for t in range(LENGTH):
            moved = inverse @ k[sequence, t]
            inverse = inverse - np.outer(moved, moved) / (1 + k[sequence, t] @ moved)
            np.testing.assert_allclose(inverse @ q[sequence, t], found[sequence, t], rtol=1e-9, atol=1e-12)


def test_the_ridge_starts_at_1_and_stays_above_a_quarter() -> None:
    assert ridge_of(np, np.array(RIDGE_START)) == pytest.approx(1.0, abs=1e-15)
    assert ridge_of(np, np.array([-1e3, -20.0, 0.0, 1e3])).min() >= 0.25


def test_a_system_whose_ridge_is_lost_in_rounding_is_not_a_number_and_spares_the_others(
    rng: np.random.Generator,
) -> None:
    q, k, parameter = drawn(rng)
    huge = k.copy()
    huge[0, 6:] = 1e10
    found = solved(q, huge, parameter)
    np.testing.assert_array_equal(found[0, :6], solved(q, k, parameter)[0, :6])
    assert not np.isfinite(found[0, 6:]).any()
    np.testing.assert_allclose(found[1], solved(q, k, parameter)[1], rtol=1e-12)


def test_packed_texts_begin_again(rng: np.random.Generator) -> None:
    q, k, parameter = drawn(rng)
    texts = np.array([[0] * 5 + [1] * 7, [0] * 11 + [1]])
    found = solved(q, k, parameter, texts=texts)
    np.testing.assert_allclose(found[:1, 5:], solved(q[:1, 5:], k[:1, 5:], parameter), rtol=1e-10)
    np.testing.assert_allclose(found[1:, :11], solved(q[1:, :11], k[1:, :11], parameter), rtol=1e-10)


def test_the_sum_before_the_first_position_counts_if_the_text_is_the_same(rng: np.random.Generator) -> None:
    q, k, parameter = drawn(rng)
    texts = np.array([[0] * 6 + [1] * 6, [0] * 12])
    before = np.swapaxes(k[:, :4], -1, -2) @ k[:, :4]
    whole = solved(q, k, parameter, texts=texts)
    np.testing.assert_allclose(
        solved(q[:, 4:], k[:, 4:], parameter, texts=texts[:, 3:], before=before), whole[:, 4:], rtol=1e-10
    )
    np.testing.assert_allclose(
        solved(q[:, 4:], k[:, 4:], parameter, before=before), solved(q, k, parameter)[:, 4:], rtol=1e-10
    )


@pytest.mark.parametrize("operands", ["s h0", "h0 s", "s s"])
def test_scores_are_refused(operands: str) -> None:
    with pytest.raises(InvalidProgramError, match="its operands must be activations, not scores"):
        build_graph(small_program(f"s = T_MAT_MUL h0 h0\ny = LEAST_SQUARES {operands}"))
