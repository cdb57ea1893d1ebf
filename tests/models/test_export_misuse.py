"""Misuse of exported blocks: each mistake is refused with an error that names the value, and changes no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from primer_search.models.export import API, verified_export
from primer_search.models.export.exported_module import load_source
from primer_search.primitives import DNA, UsageError
from primer_search.tests.support.exported_programs import APIS, LENGTH, UNIT, small_program, source_of

WIDTH = 8 * UNIT
X = jax.random.normal(jax.random.key(0), (2, 5, WIDTH))

STATEFUL = {
    "attention": small_program(
        "q = CONV_1X1 h0 width=8\nqk = T_MAT_MUL q h0\ne = EXP qk\nm = MASK e\ns = RED_SUM m\nw = DIVIDE m s\n"
        "r = MAT_MUL w h0\ny = ADD r h0"
    ),
    "convolution": small_program("c = DCONV_3X1 h0\ny = ADD c h0"),
    "running sum": small_program("s = CUM_SUM h0\nt = TANH s\ny = ADD t h0"),
}
"""Programs by the state that decoding keeps of them."""

stateful = pytest.mark.parametrize("dna", STATEFUL.values(), ids=STATEFUL)


def nnx_block(dna: DNA, **options: object) -> Any:
    return load_source(source_of(dna).source)(WIDTH, **options, rngs=nnx.Rngs(0))


@stateful
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 6), (2, 0)], ids=str)
def test_an_input_that_does_not_fit_the_cache_is_refused_and_changes_nothing(dna: DNA, shape: tuple[int, int]) -> None:
    block = nnx_block(dna)
    block.init_cache(X.shape)
    first = block(X[:, :2], decode=True)
    with pytest.raises(ValueError, match=r"the cache is for \(batch, longest\) = \(2, 5\), x is .*; call init_cache"):
        block(jnp.ones((*shape, WIDTH)), decode=True)
    decoded = jnp.concatenate([first, block(X[:, 2:], decode=True)], axis=1)
    np.testing.assert_allclose(decoded, block(X), atol=1e-5)


def linen_decoder(dna: DNA) -> Callable[[jax.Array], Any]:
    """Return a function that decodes the first inputs with a cache for two sequences of five positions."""
    block = load_source(source_of(dna, api="linen").source)(WIDTH)
    variables = block.init(jax.random.key(0), X, decode=True)
    return lambda x: block.apply(variables, x, decode=True, mutable=["cache"])


@stateful
@pytest.mark.parametrize("batch", [1, 3])
def test_a_linen_cache_refuses_another_batch(dna: DNA, batch: int) -> None:
    with pytest.raises(ValueError, match=f"the cache is for 2 sequences, x has {batch}"):
        linen_decoder(dna)(jnp.ones((batch, 1, WIDTH)))


def test_a_linen_cache_refuses_more_positions_than_it_has() -> None:
    with pytest.raises(ValueError, match="the cache has room for 5 positions, x has 6"):
        linen_decoder(STATEFUL["attention"])(jnp.ones((2, 6, WIDTH)))


@pytest.mark.parametrize("shape", [(5, WIDTH), (2, 5, 99), (2, 0, WIDTH), (-1, 5, WIDTH)])
def test_a_cache_of_another_shape_than_the_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"input_shape must be \(batch, longest, {WIDTH}\), not"):
        nnx_block(STATEFUL["attention"]).init_cache(shape)


@APIS
def test_integer_inputs_are_promoted_to_the_dtype_of_the_parameters(api: API) -> None:
    dna = small_program("s = SCALE h0\ny = SHIFT s")
    x = jnp.arange(2 * 3 * WIDTH).reshape(2, 3, WIDTH)
    if api == "nnx":
        block = nnx_block(dna)
        state = nnx.state(block, nnx.Param)
        nnx.update(block, jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), state))
        y = block(x)
    else:
        block = load_source(source_of(dna, api="linen").source)(WIDTH)
        variables = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), block.init(jax.random.key(0), X))
        y = block.apply(variables, x)
    np.testing.assert_allclose(y, 0.5 * x + 0.5)


@APIS
def test_a_running_sum_in_bfloat16_is_not_rounded_at_every_step(api: API) -> None:
    dna = small_program("s = CUM_SUM h0\ny = C_MUL s constant=half")
    x = jnp.ones((1, 400, WIDTH), jnp.bfloat16)
    block = load_source(source_of(dna, api=api).source)
    if api == "nnx":
        block = block(WIDTH, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        block.init_cache(x.shape)
        step = nnx.jit(lambda block, x: block(x, decode=True))
        last = [step(block, x[:, i : i + 1]) for i in range(400)][-1]
    else:
        block = block(WIDTH, dtype=jnp.bfloat16)
        cache = block.init(jax.random.key(0), x, decode=True)
        step = jax.jit(lambda cache, x: block.apply(cache, x, decode=True, mutable=["cache"]))
        last = x
        for i in range(400):
            last, cache = step(cache, x[:, i : i + 1])
    assert float(last[0, 0, 0]) == -200.0  # bfloat16 cannot represent 257


@APIS
@pytest.mark.parametrize("name", ["list", "sum", "value_error", "params", "position"])
def test_names_of_python_and_flax_are_not_shadowed(name: str, api: API) -> None:
    part = "a = CONV_1X1 h0 width=16\nb = TANH a\nc = CONV_1X1 b width=8\nd = ABS c"
    for body in (part, "a = ABS h0\nb = MULTIPLY a h0"):
        program = f"a = {name} h0\nb = MULTIPLY a h0\nc = ADD a b"
        dna = small_program(program, **{name: body})  # pyright: ignore[reportArgumentType]
        rendered = verified_export(dna, name="Block", unit=UNIT, length=LENGTH, api=api)
        make = load_source(rendered.source)
        with pytest.raises(ValueError, match=rf"x must be \[batch, length, {WIDTH}\], not \[2, {WIDTH}\]"):
            wrong = jnp.ones((2, WIDTH))
            make(WIDTH, rngs=nnx.Rngs(0))(wrong) if api == "nnx" else make(WIDTH).init(jax.random.key(0), wrong)


@pytest.mark.parametrize("name", ["ValueError", "isinstance", "History"])
def test_the_block_may_not_take_a_name_that_its_file_needs(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name the exported class"):
        source_of(STATEFUL["convolution"], name=name)
