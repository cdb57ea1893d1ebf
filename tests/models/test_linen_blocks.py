"""Hand-written blocks in Flax Linen, which equal those in NNX."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import primer_search.models.linen as blocks
import primer_search.models.nnx as nnx_blocks
from primer_search.tests.support.hand_written_blocks import (
    CLASSES,
    HEADS,
    LENGTH,
    TIED,
    WIDTH,
    assert_close,
    assert_trees_close,
    compiled,
    from_program,
    random_input,
)

BLOCKS = pytest.mark.parametrize("name", CLASSES)


def make(name: str, **fields: Any) -> Any:
    return getattr(blocks, CLASSES[name])(**{"heads": HEADS} | TIED.get(name, {}) | fields)


def init(block: Any, *inputs: Any, **arguments: Any) -> Any:
    """Random parameters and an empty cache, without compiling the initializers."""
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), *inputs, **arguments))
    rng = np.random.default_rng(0)
    drawn = {"params": lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype)}
    empty = {"cache": lambda leaf: jnp.zeros(leaf.shape, leaf.dtype)}
    return {name: jax.tree.map((drawn | empty)[name], tree) for name, tree in shapes.items()}


def stacked(layer: Any) -> Any:
    """Two layers under `nn.scan`, with parameters, caches and dropout keys of each."""
    axes: Any = {"params": 0, "cache": 0}
    own_rngs = {"params": True, "dropout": True}
    return nn.scan(layer, axes, split_rngs=own_rngs, in_axes=nn.broadcast, length=2)  # type: ignore[arg-type]


@BLOCKS
def test_a_block_equals_its_program_forward_and_in_every_gradient(name: str, rng: np.random.Generator) -> None:
    program = compiled(name)
    own = program.draw(rng)
    x, weights = random_input(rng), random_input(rng)
    block = make(name)

    def gradients_of(apply: Any) -> Any:
        def loss(parameters: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = apply(parameters, x)
            return jnp.sum(y * weights), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

    (_, expected), (gradients, gradient_x) = gradients_of(program.apply)(own, x)
    by_hand = gradients_of(lambda parameters, x: block.apply({"params": parameters}, x))
    (_, y), (own_gradients, own_gradient_x) = by_hand(from_program(name, own), x)
    assert_close(y, expected, "the output")
    assert_close(own_gradient_x, gradient_x, "the gradient of the input")
    assert_trees_close(own_gradients, from_program(name, gradients))


@pytest.mark.parametrize("name", ["TRANSFORMER_PP", "PRIMER_EZ", "PRIMER"])
def test_parameters_are_those_of_nnx(name: str, rng: np.random.Generator) -> None:
    x = random_input(rng)
    parameters = jax.jit(make(name).init)(jax.random.key(0), x)["params"]
    other = getattr(nnx_blocks, CLASSES[name])(WIDTH, HEADS, **TIED.get(name, {}), rngs=nnx.Rngs(0))
    theirs = nnx.to_pure_dict(nnx.state(other, nnx.Param))
    assert jax.tree.map(jnp.shape, parameters) == jax.tree.map(jnp.shape, theirs)
    for ours, other_leaf in zip(jax.tree.leaves(parameters), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(ours.std(), other_leaf.std(), rtol=0.5)
    found = jax.jit(make(name).apply)({"params": theirs}, x)
    np.testing.assert_allclose(found, nnx.jit(lambda block, x: block(x))(other, x), rtol=1e-5, atol=1e-5)


def test_the_same_names_are_public_in_both_apis() -> None:
    assert blocks.__all__ == nnx_blocks.__all__


@BLOCKS
def test_the_standard_library_pickles_a_block(name: str) -> None:
    block = make(name)
    assert pickle.loads(pickle.dumps(block)) == block


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ"])
def test_a_mask_separates_packed_texts(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    variables = init(block, x)
    text, positions = jnp.array([0, 0, 1, 1, 1, 1]), jnp.array([0, 1, 0, 1, 2, 3])
    packed = block.apply(variables, x, mask=(text[:, None] == text)[None, None], positions=positions)
    alone = block.apply(variables, x[:, 2:], positions=positions[2:])
    assert_close(packed[:, 2:], alone, "the second text")


def test_blocks_stack_under_scan_with_remat(rng: np.random.Generator) -> None:
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, deterministic: bool) -> tuple[jax.Array, None]:
            block = nn.remat(blocks.PrimerEZBlock, static_argnums=(4, 5))
            return block(HEADS, dropout_rate=0.5, name="block")(x, None, None, False, deterministic), None

    stack = stacked(Layer)()
    x = random_input(rng)
    variables = init(stack, x, True)
    one, two = ({"params": jax.tree.map(lambda leaf, i=i: leaf[i], variables["params"]["block"])} for i in range(2))
    alone = make("PRIMER_EZ")
    assert_close(stack.apply(variables, x, True)[0], alone.apply(two, alone.apply(one, x)), "the output")

    def loss(variables: Any) -> jax.Array:
        return jnp.mean(jnp.sin(stack.apply(variables, x, False, rngs={"dropout": jax.random.key(1)})[0]))

    gradients = jax.jit(jax.grad(loss))(variables)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


@BLOCKS
def test_a_block_computes_in_bfloat16_near_float32(name: str, rng: np.random.Generator) -> None:
    x = random_input(rng)
    variables = init(make(name), x)
    exact = make(name).apply(variables, x)
    y = make(name, dtype=jnp.bfloat16).apply(variables, x)
    assert y.dtype == jnp.bfloat16
    assert np.abs(y.astype(jnp.float32) - exact).max() < 0.05 * np.abs(exact).max()
    half = init(make(name, param_dtype=jnp.bfloat16), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


def test_dropout_is_applied_only_in_training(rng: np.random.Generator) -> None:
    x = random_input(rng)
    block, whole = make("PRIMER_EZ", dropout_rate=0.5), make("PRIMER_EZ")
    variables = init(whole, x)
    one, two = (block.apply(variables, x, rngs={"dropout": jax.random.key(seed)}) for seed in range(2))
    assert np.abs(one - two).max() > 0.1
    expected = whole.apply(variables, x)
    np.testing.assert_array_equal(block.apply(variables, x, deterministic=True), expected)
    np.testing.assert_array_equal(block.clone(deterministic=True).apply(variables, x), expected)


@BLOCKS
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 0}, "heads is 0, but must be at least 1"),
        ({"mlp_width": 0}, "mlp_width is 0, but must be at least 1"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0, but must be at least 0 and below 1"),
    ],
)
def test_a_wrong_size_is_refused_by_the_constructor(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **fields)


@BLOCKS
def test_an_input_that_does_not_fit_is_an_error_with_a_remedy(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    with pytest.raises(ValueError, match=r"width is 12.* heads=8"):
        init(block, x[..., :12])
    with pytest.raises(ValueError, match=r"shape \[6, 16\], but the block takes \[batch, length, width\]; reshape it"):
        init(block, x[0])
    variables = init(block, x)
    with pytest.raises(ValueError, match=r"shape \[2, 6, 8\], but the block takes \[batch, length, 16\]"):
        block.apply(variables, x[..., :8])


def test_wrong_use_is_an_error_with_a_remedy(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="kernel_size is 0, but must be at least 1"):
        blocks.CausalDepthwiseConv(kernel_size=0)
    with pytest.raises(ValueError, match="kernel_size is 0, but must be at least 1"):
        make("PRIMER_EZ", kernel_size=0)
    with pytest.raises(ValueError, match="length is 0, but must be at least 1"):
        make("PRIMER", length=0)
    with pytest.raises(ValueError, match="7 positions, but the block was built with length=6"):
        init(make("PRIMER"), random_input(rng, 7))


# --- decoding ---------------------------------------------------------------------------------------------------


def decode(block: Any, variables: Any, x: jax.Array, chunks: tuple[int, ...], positions: Any = None) -> jax.Array:
    step = jax.jit(lambda v, x, p: block.apply(v, x, positions=p, decode=True, mutable=["cache"]))
    outputs = []
    for size, end in zip(chunks, np.cumsum(chunks), strict=True):
        new = None if positions is None else positions[:, end - size : end]
        y, changed = step(variables, x[:, end - size : end], new)
        variables, outputs = variables | changed, [*outputs, y]
    return jnp.concatenate(outputs, axis=1)


@BLOCKS
@pytest.mark.parametrize(("chunks", "rotary"), [((1,) * LENGTH, False), ((3, 1, 2), True)], ids=str)
def test_decoded_outputs_are_those_of_the_whole_sequence(
    name: str, chunks: tuple[int, ...], rotary: bool, rng: np.random.Generator
) -> None:
    block, x = make(name), random_input(rng)
    variables = init(block, jnp.ones_like(x), decode=True)
    positions = jnp.array([[5], [0]]) + jnp.arange(LENGTH) if rotary else None
    expected = block.apply({"params": variables["params"]}, x, positions=positions)
    assert_close(decode(block, variables, x, chunks, positions), expected, "the decoded output")


def test_prompts_padded_on_the_left_decode_as_without_padding(rng: np.random.Generator) -> None:
    block, x, padding = make("PRIMER_EZ"), random_input(rng), random_input(rng, 2)
    padded = jnp.concatenate([padding, x], axis=1)
    variables = init(block, jnp.ones_like(padded), decode=True)
    expected, outputs = block.apply({"params": variables["params"]}, x), []
    for start in range(0, 2 + LENGTH, 2):
        mask = (jnp.arange(2 + LENGTH) >= 2)[None, None, None]
        part = padded[:, start : start + 2]
        y, cache = block.apply(variables, part, mask=mask, decode=True, mutable=["cache"])
        variables = variables | cache
        outputs.append(y)
    assert_close(jnp.concatenate(outputs, axis=1)[:, 2:], expected, "the decoded output")


def test_init_with_decode_draws_the_same_parameters_and_an_empty_cache(rng: np.random.Generator) -> None:
    block, x = make("PRIMER_EZ"), random_input(rng)
    key = jax.random.key(0)
    variables = jax.jit(lambda: block.init(key, x, decode=True))()
    jax.tree.map(np.testing.assert_array_equal, variables["params"], jax.jit(lambda: block.init(key, x)["params"])())
    assert not any(leaf.any() for leaf in jax.tree.leaves(variables["cache"]))


def test_positions_beyond_the_cache_are_nan_rather_than_wrong(rng: np.random.Generator) -> None:
    block, x = make("PRIMER_EZ"), random_input(rng)
    variables = init(block, x[:, :5], decode=True)
    y = decode(block, variables, x, (5, 1))
    assert np.isfinite(y[:, :5]).all()
    assert np.isnan(y[:, 5]).all()
    with pytest.raises(ValueError, match="x has 6 positions, but the cache has room for 5"):
        decode(block, variables, x, (6,))


def test_decoding_without_a_fitting_cache_is_an_error_with_a_remedy(rng: np.random.Generator) -> None:
    block, x = make("PRIMER"), random_input(rng)
    variables = init(block, x)
    with pytest.raises(
        ValueError, match="the cache to decode with is missing; make the variables with the longest input"
    ):
        block.apply(variables, x, decode=True, mutable=["cache"])
    with pytest.raises(ValueError, match="the cache holds 2 sequences, but x has 1"):
        decode(block, init(block, x, decode=True), x[:1], (6,))


def test_a_scanned_stack_decodes(rng: np.random.Generator) -> None:
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, decode: bool) -> tuple[jax.Array, None]:
            return blocks.PrimerEZBlock(HEADS, name="block")(x, decode=decode), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, positions: None = None, decode: bool = False) -> jax.Array:
            return stacked(Layer)(name="layers")(x, decode)[0]

    stack, x = Stack(), random_input(rng)
    variables = init(stack, x, decode=True)
    expected = stack.apply({"params": variables["params"]}, x)
    assert_close(decode(stack, variables, x, (4, 1, 1)), expected, "the decoded output")
