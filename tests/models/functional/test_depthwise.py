"""The written gradients of a depthwise convolution are those of the primitives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.functional.depthwise import FAST_OPS, causal_depthwise, depthwise_convolution
from primer_search.primitives import build_graph
from primer_search.primitives.ops.op_arithmetic import depthwise_convolution as primitive
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library

TOLERANCE = 1e-5
LENGTH, WIDTH = 6, 4
SHAPES = {  # of the inputs and of the taps, both without kernel, length and width
    "no branches": ((3,), ()),
    "branches": ((2, 3), (2,)),
    "nested branches": ((2, 4, 3), (2, 4)),
    "inputs that all branches share": ((3,), (2,)),
    "inputs that the inner branches share": ((2, 1, 3), (2, 4)),
}


KERNELS = [3, pytest.param(7, marks=pytest.mark.slow), pytest.param(15, marks=pytest.mark.slow), 31]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_values_and_gradients_are_those_of_the_primitive(shapes: str, kernel: int) -> None:
    axes, branches = SHAPES[shapes]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((*axes, LENGTH, WIDTH)), jnp.float32)
    taps = jnp.asarray(rng.standard_normal((*branches, kernel, WIDTH)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal((*branches, axes[-1], LENGTH, WIDTH)), jnp.float32)

    def plain(x: jax.Array, taps: jax.Array) -> jax.Array:
        learned = {"kernel": jnp.expand_dims(taps, len(branches)) if branches else taps}
        return primitive(jnp, [x], learned, 0.0, kernel)

    np.testing.assert_allclose(depthwise_convolution(x, taps), plain(x, taps), rtol=TOLERANCE, atol=TOLERANCE)
    found, expected = (
        jax.jit(jax.grad(lambda x, taps, apply=apply: jnp.sum(weights * apply(x, taps)), (0, 1)))(x, taps)
        for apply in (depthwise_convolution, plain)
    )
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * float(jnp.abs(other).max()))


def test_a_compiled_block_uses_it_and_equals_the_primitives() -> None:
    graph = build_graph(library.get("PRIMER_EZ", 2, 2))
    fast, plain = compile_block(graph, 2), compile_block(graph, 2, fused=False)
    assert fast.fast_ops.keys() >= {name for name in OPS if name.startswith("DCONV_")} == FAST_OPS.keys()
    assert not plain.fast_ops
    parameters = fast.init(np.random.default_rng(0))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, LENGTH, 16)), jnp.float32)
    found, expected = (
        jax.jit(jax.grad(lambda *given, block=block: jnp.sum(jnp.sin(block.apply(*given))), (0, 1)))(parameters, x)
        for block in (fast, plain)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=TOLERANCE * float(jnp.abs(other).max()))


def test_a_later_position_changes_nothing() -> None:
    x = jnp.ones((1, LENGTH, WIDTH)).at[:, -1].set(jnp.nan)
    y = depthwise_convolution(x, jnp.ones((3, WIDTH)))
    np.testing.assert_array_equal(y[0, :-1, 0], [1, 2, 3, 3, 3])
    assert np.all(np.isnan(y[0, -1]))


def test_the_taps_keep_their_dtype_and_sum_in_float32() -> None:
    x = jnp.ones((64, 64, 2), jnp.bfloat16)
    gradient = jax.grad(lambda taps: jnp.sum(depthwise_convolution(x, taps)).astype(jnp.float32))(
        jnp.ones((3, 2), jnp.bfloat16)
    )
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient[-1].astype(np.float32), 4096)  # in bfloat16, sums of ones end at 256


def test_the_layer_continues_where_its_past_ends() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, LENGTH, 2, WIDTH)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((3, 2, WIDTH)), jnp.float32)
    whole, _ = causal_depthwise(x, kernel)
    first, past = causal_depthwise(x[:, :2], kernel)
    second, _ = causal_depthwise(x[:, 2:], kernel, past)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=TOLERANCE, atol=TOLERANCE)
