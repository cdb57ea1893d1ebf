"""The written gradient of a product with a matrix is JAX's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.functional.dense import dense_product
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library


@pytest.mark.parametrize("axes", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_those_of_matmul(axes: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, matrix, weights = (
        jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((*axes, 5, 4), (4, 6), (*axes, 5, 6))
    )
    np.testing.assert_array_equal(dense_product(x, matrix), jnp.matmul(x, matrix))
    found, expected = (
        jax.grad(lambda x, matrix, product=product: jnp.sum(weights * product(x, matrix)).astype(jnp.float32), (0, 1))(
            x, matrix
        )
        for product in (dense_product, jnp.matmul)
    )
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == dtype and one.shape == other.shape
        np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), rtol=tolerance, atol=tolerance)


def test_the_compiled_transformer_uses_it_and_learns_as_the_primitives_do() -> None:
    graph = build_graph(library.get("TRANSFORMER", 2, 2))
    fast, plain = compile_block(graph, 2), compile_block(graph, 2, fused=False)
    assert "CONV_1X1" in fast.fast_ops and not plain.fast_ops
    parameters = fast.init(np.random.default_rng(0))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 6, 16)), jnp.float32)
    found, expected = (
        jax.jit(jax.grad(lambda parameters, block=block: jnp.sum(jnp.sin(block.apply(parameters, x)))))(parameters)
        for block in (fast, plain)
    )
    for name, one in found.items():
        np.testing.assert_allclose(one, expected[name], rtol=1e-4, atol=1e-5 * float(jnp.abs(expected[name]).max()))
