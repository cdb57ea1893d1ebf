"""Exported blocks under jit, grad, vmap, scan, remat and low precision, in both APIs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from primer_search.models.export import API, export_source
from primer_search.models.export.exported_module import load_source
from primer_search.primitives.programs.library import get

WIDTH, HEADS, LENGTH, LAYERS = 16, 2, 6, 2
X = jax.random.normal(jax.random.key(1), (2, LENGTH, WIDTH))

Tree = Any
"""Arrays in nested dicts."""

programs = pytest.mark.parametrize("program", ["PRIMER_EZ", "TRANSFORMER_PP"])
apis = pytest.mark.parametrize("api", ["nnx", "linen"])


@cache
def exported(program: str, api: API) -> Callable[..., Any]:
    """Return the class in an exported file."""
    return load_source(export_source(get(program), name="Block", unit=64, api=api).source)


@cache
def functions(program: str, api: API, **options: Any) -> tuple[Callable[[jax.Array], Tree], Callable[..., jax.Array]]:
    """Return a block's functions: parameters from a key, and outputs from parameters and inputs."""
    make = exported(program, api)
    if api == "linen":
        block = make(WIDTH, HEADS, **options)
        return (lambda key: block.init(key, X)["params"]), (lambda params, x: block.apply({"params": params}, x))
    graph = nnx.graphdef(make(WIDTH, HEADS, rngs=nnx.Rngs(0), **options))

    def init(key: jax.Array) -> Tree:
        return nnx.to_pure_dict(nnx.state(make(WIDTH, HEADS, rngs=nnx.Rngs(key), **options), nnx.Param))

    def apply(params: Tree, x: jax.Array) -> jax.Array:
        block = nnx.merge(graph, nnx.State(params))
        return block(x)

    return init, apply


@cache
def parameters(program: str, api: API) -> Tree:
    return jax.jit(functions(program, api)[0])(jax.random.key(0))


@cache
def compiled(program: str, api: API) -> Callable[..., jax.Array]:
    return jax.jit(functions(program, api)[1])


def assert_trees_close(found: Tree, expected: Tree, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, expected)


@programs
@apis
def test_a_compiled_block_computes_the_same_as_an_uncompiled_one(program: str, api: API) -> None:
    _, apply = functions(program, api)
    params = parameters(program, api)
    assert_trees_close(compiled(program, api)(params, X), apply(params, X))


@programs
@apis
def test_every_parameter_and_the_input_have_a_gradient(program: str, api: API) -> None:
    _, apply = functions(program, api)
    gradients = jax.jit(jax.grad(lambda *arguments: jnp.sum(apply(*arguments) ** 2), (0, 1)))(
        parameters(program, api), X
    )
    for gradient in jax.tree.leaves(gradients):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@programs
@apis
def test_blocks_created_and_run_by_vmap_equal_those_created_one_by_one(program: str, api: API) -> None:
    init, apply = functions(program, api)
    keys = jax.random.split(jax.random.key(2), LAYERS)
    together = jax.jit(jax.vmap(init))(keys)
    outputs = jax.jit(jax.vmap(apply, (0, None)))(together, X)
    for index, output in enumerate(outputs):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        assert_trees_close(output, compiled(program, api)(one, X))
    first, second = (jax.tree.leaves(jax.tree.map(lambda leaf, i=i: leaf[i], together)) for i in range(LAYERS))
    assert any(np.any(a != b) for a, b in zip(first, second, strict=True))


@programs
@apis
def test_rematerialized_gradients_are_the_same(program: str, api: API) -> None:
    make = exported(program, api)

    def rematerialized(params: Tree, x: jax.Array) -> jax.Array:
        if api == "linen":
            block = nn.remat(make, static_argnums=(2,))(WIDTH, HEADS)
            return block.apply({"params": params}, x, False)
        block = make(WIDTH, HEADS, rngs=nnx.Rngs(0))
        nnx.update(block, params)
        return nnx.remat(lambda block, x: block(x))(block, x)

    def gradients(apply: Callable[..., jax.Array]) -> Tree:
        return jax.jit(jax.grad(lambda params: jnp.mean(apply(params, X) ** 2)))(parameters(program, api))

    assert_trees_close(gradients(rematerialized), gradients(functions(program, api)[1]))


@programs
@apis
def test_in_bfloat16_outputs_are_bfloat16_and_parameters_stay_float32(program: str, api: API) -> None:
    init, apply = functions(program, api, dtype=jnp.bfloat16)
    params = parameters(program, api)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))} == {jnp.dtype(jnp.float32)}
    y = jax.jit(apply)(params, X)
    assert y.dtype == jnp.bfloat16
    assert_trees_close(y.astype(jnp.float32), compiled(program, api)(params, X), tolerance=0.1)


@programs
@apis
def test_parameters_can_be_kept_in_bfloat16(program: str, api: API) -> None:
    init, apply = functions(program, api, param_dtype=jnp.bfloat16)
    params = jax.jit(init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert jax.eval_shape(apply, params, X).dtype == jnp.float32, "float32 inputs promote"
    assert jax.eval_shape(apply, params, X.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_stack_under_nnx_scan_and_remat_computes_and_decodes() -> None:
    make = exported("PRIMER_EZ", "nnx")

    @nnx.split_rngs(splits=LAYERS)
    @nnx.vmap
    def stack(rngs: nnx.Rngs) -> Any:
        return make(WIDTH, HEADS, rngs=rngs)

    @nnx.jit(static_argnames="decode")
    def forward(blocks: Any, x: jax.Array, decode: bool) -> jax.Array:
        step = nnx.remat(lambda block, x: block(x, decode=decode))
        return nnx.scan(step, in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(blocks, x)

    blocks = stack(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"a stack of blocks; use nnx\.vmap"):
        blocks.init_cache(X.shape)
    nnx.vmap(lambda block: block.init_cache(X.shape))(blocks)
    expected = X
    for layer in range(LAYERS):
        params = jax.tree.map(lambda leaf, layer=layer: leaf[layer], nnx.to_pure_dict(nnx.state(blocks, nnx.Param)))
        expected = compiled("PRIMER_EZ", "nnx")(params, expected)
    assert_trees_close(forward(blocks, X, False), expected)
    decoded = [forward(blocks, X[:, start:end], True) for start, end in ((0, 5), (5, 6))]
    assert_trees_close(jnp.concatenate(decoded, axis=1), expected)


def test_a_stack_under_nn_scan_and_remat_computes_and_decodes() -> None:
    make = exported("PRIMER_EZ", "linen")

    class Stack(nn.Module):
        decode: bool = False

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            block = nn.remat(make, static_argnums=(2,), prevent_cse=False)(WIDTH, HEADS, name="block")
            scan = nn.scan(
                lambda block, x: (block(x, self.decode), None),
                variable_axes={"params": 0, "cache": 0},
                split_rngs={"params": True},
                length=LAYERS,
            )
            return scan(block, x)[0]

    cache, params = (jax.jit(Stack(decode=True).init)(jax.random.key(0), X)[name] for name in ("cache", "params"))
    expected = X
    for layer in range(LAYERS):
        one = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["block"])
        expected = compiled("PRIMER_EZ", "linen")(one, expected)
    assert_trees_close(jax.jit(Stack().apply)({"params": params}, X), expected)

    decode = jax.jit(lambda variables, x: Stack(decode=True).apply(variables, x, mutable=["cache"]))
    variables, decoded = {"params": params, "cache": cache}, []
    for start, end in ((0, 5), (5, 6)):
        y, changed = decode(variables, X[:, start:end])
        variables |= changed
        decoded.append(y)
    assert_trees_close(jnp.concatenate(decoded, axis=1), expected)
