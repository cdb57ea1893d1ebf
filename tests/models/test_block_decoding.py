"""The blocks written by hand in Flax NNX, step by step with a cache."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models as models
from primer_search.models import CausalDepthwiseConv
from primer_search.tests.support.hand_written_blocks import (
    CLASSES,
    HEADS,
    LENGTH,
    TIED,
    WIDTH,
    assert_close,
    random_input,
)

BLOCKS = pytest.mark.parametrize("name", CLASSES)


def make(name: str, **fields: Any) -> Any:
    settings = {"heads": HEADS, "rngs": nnx.Rngs(0)} | TIED.get(name, {}) | fields
    return getattr(models, CLASSES[name])(WIDTH, **settings)


@nnx.jit
def step(block: Any, x: jax.Array, positions: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
    return block(x, decode=True, positions=positions, mask=mask)


@BLOCKS
@pytest.mark.parametrize(("chunks", "rotary"), [((1,) * LENGTH, False), ((1,) * LENGTH, True), ((3, 1, 2), True)])
def test_decoded_outputs_are_those_of_the_whole_sequence(
    name: str, chunks: tuple[int, ...], rotary: bool, rng: np.random.Generator
) -> None:
    block, x = make(name), random_input(rng)
    positions = jnp.array([[5], [0]]) + jnp.arange(LENGTH) if rotary else None
    block.init_cache((2, LENGTH, WIDTH))
    ends = np.cumsum(chunks)
    decoded = [
        step(block, x[:, end - size : end], None if positions is None else positions[:, end - size : end])
        for size, end in zip(chunks, ends, strict=True)
    ]
    assert_close(jnp.concatenate(decoded, axis=1), block(x, positions=positions), "the decoded output")


def test_a_new_cache_begins_a_new_text(rng: np.random.Generator) -> None:
    block, x = make("PRIMER_EZ"), random_input(rng)
    for text in (x, -x):
        block.init_cache((2, LENGTH, WIDTH))
        assert_close(step(block, text[:, :4]), block(text[:, :4]), "the decoded prompt")


def test_a_cache_longer_than_the_text_changes_nothing(rng: np.random.Generator) -> None:
    block, x = make("PRIMER_EZ"), random_input(rng)
    block.init_cache((2, 3 * LENGTH, WIDTH))
    assert_close(block(x, decode=True), block(x), "the decoded output")


@pytest.mark.parametrize("name", ["PRIMER_EZ", "PRIMER"])
def test_prompts_of_different_lengths_are_padded_on_the_left_and_masked(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    mask = (jnp.arange(LENGTH) >= jnp.array([2, 0])[:, None])[:, None, None]  # [batch, 1, 1, keys]
    block.init_cache((2, LENGTH, WIDTH))
    decoded = [step(block, x[:, start : start + 2], mask=mask) for start in range(0, LENGTH, 2)]
    assert_close(jnp.concatenate(decoded, axis=1), block(x, mask=mask), "the decoded output")


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER"])
def test_positions_beyond_the_cache_are_nan_rather_than_wrong(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    block.init_cache((2, LENGTH - 1, WIDTH))
    assert np.isfinite(step(block, x[:, : LENGTH - 1])).all()
    assert np.isnan(step(block, x[:, LENGTH - 1 :])).all()
    with pytest.raises(ValueError, match="x has 6 positions, but the cache has room for 5"):
        block(x, decode=True)


@BLOCKS
def test_decoding_without_a_fitting_cache_says_what_to_do(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    with pytest.raises(ValueError, match="call init_cache first"):
        block(x, decode=True)
    with pytest.raises(ValueError, match=r"init_cache takes the shape \(batch, longest, 16\)"):
        block.init_cache((2, LENGTH))
    block.init_cache((3, LENGTH, WIDTH))
    with pytest.raises(ValueError, match="the cache holds 3 sequences, but x has 2"):
        block(x, decode=True)


def test_a_cache_longer_than_the_block_was_built_for_is_refused() -> None:
    with pytest.raises(ValueError, match="7 positions, but the block was built with length=6"):
        make("PRIMER").init_cache((2, 7, WIDTH))


def test_a_cache_in_bfloat16_is_near(rng: np.random.Generator) -> None:
    block, x = make("PRIMER_EZ"), random_input(rng)
    block.init_cache((2, LENGTH, WIDTH), jnp.bfloat16)
    arrays = jax.tree.leaves(nnx.state(block, nnx.Cache))
    assert {leaf.dtype for leaf in arrays if leaf.ndim} == {jnp.dtype(jnp.bfloat16)}
    y = jnp.concatenate([step(block, x[:, i : i + 2]) for i in range(0, LENGTH, 2)], axis=1)
    assert y.dtype == jnp.float32
    assert 0 < np.abs(y - block(x)).max() < 0.05


def test_a_block_in_bfloat16_decodes_what_it_computes(rng: np.random.Generator) -> None:
    block, x = make("PRIMER", dtype=jnp.bfloat16), random_input(rng)
    block.init_cache((2, LENGTH, WIDTH), jnp.bfloat16)
    y = jnp.concatenate([step(block, x[:, i : i + 3]) for i in (0, 3)], axis=1)
    np.testing.assert_allclose(y.astype(jnp.float32), block(x).astype(jnp.float32), rtol=0.05, atol=0.05)


def test_a_scanned_stack_decodes(rng: np.random.Generator) -> None:
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def stack(rngs: nnx.Rngs) -> Any:
        block = make("PRIMER_EZ", rngs=rngs)
        block.init_cache((2, LENGTH, WIDTH))
        return block

    @nnx.jit(static_argnames="decode")
    def forward(blocks: Any, x: jax.Array, decode: bool) -> jax.Array:
        return nnx.scan(lambda block, x: block(x, decode=decode), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(blocks, x)

    blocks, x = stack(nnx.Rngs(0)), random_input(rng)
    decoded = [forward(blocks, x[:, start:end], True) for start, end in ((0, 4), (4, 5), (5, 6))]
    assert_close(jnp.concatenate(decoded, axis=1), forward(blocks, x, False), "the decoded output")


@pytest.mark.parametrize("kernel_size", [1, 2, 5])
def test_a_convolution_of_any_size_streams(kernel_size: int, rng: np.random.Generator) -> None:
    conv, x = CausalDepthwiseConv(WIDTH, kernel_size, rngs=nnx.Rngs(0)), random_input(rng)
    conv.init_cache(x.shape)
    y = jnp.concatenate([conv(x[:, :4], decode=True), conv(x[:, 4:], decode=True)], axis=1)
    np.testing.assert_allclose(y, conv(x), rtol=1e-6, atol=1e-6)
    padded = np.pad(x, ((0, 0), (kernel_size - 1, 0), (0, 0)))
    expected = sum(conv.kernel[...][j] * padded[:, j : j + LENGTH] for j in range(kernel_size))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_a_convolution_says_what_it_takes() -> None:
    conv = CausalDepthwiseConv((4, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"the convolution takes \[batch, length, 4, 2\]"):
        conv(jnp.ones((1, 3, 8)))
    with pytest.raises(ValueError, match="call init_cache first"):
        conv(jnp.ones((1, 3, 4, 2)), decode=True)


@BLOCKS
def test_a_refused_call_changes_nothing(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    block.init_cache((2, LENGTH, WIDTH))
    block(x[:, :2], decode=True)
    for refused in (jnp.concatenate([x, x], axis=1), x[:1]):
        with pytest.raises(ValueError, match=r"cache|length"):
            block(refused, decode=True)
    assert_close(block(x[:, 2:], decode=True), block(x)[:, 2:], "the output after a refused call")
