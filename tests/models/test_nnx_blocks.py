"""Hand-written blocks in Flax NNX: what they compute, and how they behave inside a model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models as models
from primer_search.models import MultiHeadAttention, PrimerBlock, PrimerEZBlock
from primer_search.models.functional.rotary import rotate
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


def make(name: str, width: int = WIDTH, **fields: Any) -> Any:
    settings = {"heads": HEADS, "rngs": nnx.Rngs(0)} | TIED.get(name, {}) | fields
    return getattr(models, CLASSES[name])(width, **settings)


def with_parameters(module: Any, parameters: Any) -> Any:
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, parameters)
    nnx.update(module, state)
    return module


def parameters_of(module: Any) -> Any:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


@BLOCKS
def test_a_block_equals_its_program_forward_and_in_every_gradient(name: str, rng: np.random.Generator) -> None:
    program = compiled(name)
    own = program.draw(rng)
    x, weights = random_input(rng), random_input(rng)
    block = with_parameters(make(name), jax.tree.map(jnp.asarray, from_program(name, own)))

    def loss(apply: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = apply(x)
        return jnp.sum(y * weights), y

    by_program = jax.value_and_grad(lambda p, x: loss(lambda x: program.apply(p, x), x), argnums=(0, 1), has_aux=True)
    (_, expected), (gradients, gradient_x) = jax.jit(by_program)(own, x)
    by_hand = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, y), (own_gradients, own_gradient_x) = nnx.jit(by_hand)(block, x)
    assert_close(y, expected, "the output")
    assert_close(own_gradient_x, gradient_x, "the gradient of the input")
    assert_trees_close(nnx.to_pure_dict(own_gradients), from_program(name, gradients))


@pytest.mark.parametrize("name", ["TRANSFORMER_PP", "PRIMER_EZ", "PRIMER"])
def test_parameters_start_as_those_of_the_program(name: str, rng: np.random.Generator) -> None:
    unit = 16
    expected = from_program(name, compiled(name, unit).init(rng))
    block = make(name, 8 * unit)
    ours, theirs = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (parameters_of(block), expected))
    assert ours.keys() == theirs.keys()
    for path, value in ours.items():
        assert value.shape == theirs[path].shape
        np.testing.assert_allclose(value.std(), theirs[path].std(), rtol=0.1, err_msg=str(path))
        np.testing.assert_allclose(value.mean(), theirs[path].mean(), atol=0.01, err_msg=str(path))


@BLOCKS
def test_future_tokens_do_not_change_the_past(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    padding = jnp.arange(LENGTH)[None, None, None, :] >= jnp.array([2, 0])[:, None, None, None]
    for mask in (None, padding):
        reach = jax.jit(jax.jacobian(lambda x, mask=mask: jnp.sum(block(x, mask=mask), -1)))(x)
        moved = np.abs(np.stack([reach[i, :, i] for i in range(2)])).max(axis=(0, 3))  # [to, from]
        assert (np.diag(moved) > 0).all()
        np.testing.assert_array_equal(np.triu(moved, 1), 0)


def test_a_prefix_has_the_outputs_it_has_within_the_sequence(rng: np.random.Generator) -> None:
    block, x = make("PRIMER"), random_input(rng)
    np.testing.assert_allclose(block(x[:, :4]), block(x)[:, :4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["TRANSFORMER", "TRANSFORMER_PP", "PRIMER_EZ"])
def test_a_mask_separates_packed_texts(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    text = jnp.array([0, 0, 1, 1, 1, 1])
    positions = jnp.array([0, 1, 0, 1, 2, 3])
    packed = block(x, mask=(text[:, None] == text)[None, None], positions=positions)
    np.testing.assert_allclose(packed[:, :2], block(x[:, :2], positions=positions[:2]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(packed[:, 2:], block(x[:, 2:], positions=positions[2:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["TRANSFORMER", "TRANSFORMER_PP", "PRIMER_EZ"])
def test_padding_on_the_left_changes_nothing(name: str, rng: np.random.Generator) -> None:
    block, x, padding = make(name), random_input(rng), random_input(rng, 3)
    mask = (jnp.arange(3 + LENGTH) >= 3)[None, None, None]
    padded = block(jnp.concatenate([padding, x], axis=1), mask=mask)
    np.testing.assert_allclose(padded[:, 3:], block(x), rtol=1e-5, atol=1e-5)
    assert np.abs(block(jnp.concatenate([padding, x], axis=1))[:, 3:] - block(x)).max() > 1e-2


def test_a_convolution_reads_what_the_mask_allows_in_each_head(rng: np.random.Generator) -> None:
    convolution = models.CausalDepthwiseConv((2, 1), 3, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((1, 4, 2, 1)), jnp.float32)
    mask = jnp.ones((1, 2, 4, 4), bool).at[0, 0, 3, 1].set(False).at[0, 1, 2].set(False)
    y, taps = convolution(x, mask=mask), convolution.kernel[...]
    expected = convolution(x).at[0, 3, 0].add(-taps[0, 0] * x[0, 1, 0]).at[0, 2, 1].set(taps[2, 1] * x[0, 2, 1])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    flat = models.CausalDepthwiseConv(3, 2, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((1, 4, 3)), jnp.float32)
    np.testing.assert_allclose(flat(x, mask=jnp.eye(4, dtype=bool)[None, None]), flat.kernel[1] * x, rtol=1e-6)
    with pytest.raises(ValueError, match=r"mask has shape \[1, 1, 3, 4\], but must broadcast"):
        flat(x, mask=jnp.ones((1, 1, 3, 4), bool))


@BLOCKS
def test_outputs_with_rotary_positions_depend_only_on_distances(name: str, rng: np.random.Generator) -> None:
    block, x = make(name), random_input(rng)
    near, far = block(x, positions=jnp.arange(LENGTH)), block(x, positions=jnp.array([[7], [9]]) + jnp.arange(LENGTH))
    np.testing.assert_allclose(near, far, rtol=1e-4, atol=1e-4)
    assert np.abs(near - block(x)).max() > 1e-3


def test_rotation_pairs_channels_half_split() -> None:
    x = jnp.zeros((1, 2, 1, 4)).at[..., 0].set(1.0).at[..., 1].set(2.0)
    turned = rotate(x, jnp.array([0, 3]))[0, :, 0]
    expected = [[1, 2, 0, 0], [np.cos(3), 2 * np.cos(0.03), np.sin(3), 2 * np.sin(0.03)]]
    np.testing.assert_allclose(turned, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["PRIMER_EZ", "PRIMER"])
def test_blocks_stack_under_scan_with_remat(name: str, rng: np.random.Generator) -> None:
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def stack(rngs: nnx.Rngs) -> Any:
        return make(name, rngs=rngs)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    @nnx.remat
    def forward(block: Any, x: jax.Array) -> jax.Array:
        return block(x)

    @nnx.jit
    @nnx.value_and_grad(has_aux=True)
    def loss(blocks: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = forward(blocks, x)
        return jnp.mean(jnp.sin(y)), y

    blocks, x = stack(nnx.Rngs(0)), random_input(rng)
    (_, y), gradients = loss(blocks, x)
    graph, state = nnx.split(blocks)
    layers = [nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], state)) for layer in range(2)]
    assert_close(y, layers[1](layers[0](x)), "the output")
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("name", ["PRIMER_EZ", "PRIMER"])
def test_a_stack_gets_its_caches_layer_by_layer_only(name: str, rng: np.random.Generator) -> None:
    blocks = nnx.vmap(lambda rngs: make(name, rngs=rngs))(nnx.Rngs(0).split(2))
    x = random_input(rng)
    with pytest.raises(ValueError, match=r"a stack of blocks.* use nnx.vmap\(lambda block: block.init_cache"):
        blocks.init_cache(x.shape)
    with pytest.raises(ValueError, match="a stack of blocks"):
        blocks.attention.key_conv.init_cache((2, LENGTH, HEADS, WIDTH // HEADS))
    nnx.vmap(lambda block: block.init_cache(x.shape))(blocks)

    def forward(x: jax.Array, decode: bool) -> jax.Array:
        step = lambda x, block: block(x, decode=decode)  # noqa: E731
        return nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, blocks)

    decoded = jnp.concatenate([forward(x[:, :4], True), forward(x[:, 4:], True)], axis=1)
    assert_close(decoded, forward(x, False), "the decoded output")


def test_blocks_vmap_over_ensembles_of_inputs(rng: np.random.Generator) -> None:
    block = make("PRIMER_EZ")
    x = jnp.stack([random_input(rng) for _ in range(3)])
    np.testing.assert_allclose(jax.vmap(block)(x)[1], block(x[1]), rtol=1e-5, atol=1e-5)


@BLOCKS
def test_a_block_computes_in_bfloat16_near_float32(name: str, rng: np.random.Generator) -> None:
    whole, x = make(name), random_input(rng)
    exact = whole(x)
    for param_dtype in (jnp.float32, jnp.bfloat16):
        block = make(name, dtype=jnp.bfloat16, param_dtype=param_dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(parameters_of(block))} == {jnp.dtype(param_dtype)}
        block = with_parameters(
            block, jax.tree.map(lambda leaf, new=param_dtype: leaf.astype(new), parameters_of(whole))
        )
        y = block(x)
        assert y.dtype == jnp.bfloat16
        assert np.abs(y.astype(jnp.float32) - exact).max() < 0.05 * np.abs(exact).max()
    half = make(name, param_dtype=jnp.bfloat16)(x.astype(jnp.bfloat16), positions=jnp.arange(LENGTH))
    assert half.dtype == jnp.bfloat16


@BLOCKS
def test_dropout_is_applied_only_in_training(name: str, rng: np.random.Generator) -> None:
    x = random_input(rng)
    block, whole = make(name, dropout_rate=0.5), make(name)
    assert np.abs(block(x) - block(x)).max() > 0.1
    np.testing.assert_array_equal(block(x, deterministic=True), whole(x))
    block.eval()
    np.testing.assert_array_equal(block(x), whole(x))
    assert np.abs(block(x, deterministic=False) - whole(x)).max() > 0.1
    assert not nnx.state(whole, nnx.RngState), "without dropout there is no random state to carry"


def test_a_block_survives_splitting_and_merging(rng: np.random.Generator) -> None:
    block, x = make("PRIMER"), random_input(rng)
    np.testing.assert_array_equal(nnx.merge(*nnx.split(block))(x), block(x))
    assert nnx.split(block, nnx.Param, ...)[2] == {}


def test_initializers_are_those_given() -> None:
    ones, twos = nnx.initializers.ones, nnx.initializers.constant(2.0)
    for name in ("PRIMER_EZ", "PRIMER"):
        block = make(name, kernel_init=ones, bias_init=twos)
        assert (block.attention.query.kernel[...] == 1).all()
        assert (block.feed_forward.hidden.kernel[...] == 1).all()
        assert (block.feed_forward.hidden.bias[...] == 2).all()
    conv = models.CausalDepthwiseConv(4, kernel_size=2, kernel_init=twos, rngs=nnx.Rngs(0))
    assert conv(jnp.ones((1, 3, 4)))[0, :, 0].tolist() == [2, 4, 4]


def test_feed_forwards_are_as_wide_as_in_the_library() -> None:
    for name, times in (("TRANSFORMER", 4), ("TRANSFORMER_PP", 3), ("PRIMER_EZ", 4), ("PRIMER", 12)):
        assert make(name).feed_forward.hidden.kernel.shape == (WIDTH, times * WIDTH)
        assert make(name, mlp_width=10).feed_forward.hidden.kernel.shape == (WIDTH, 10)


@BLOCKS
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 100}, "width is 100.* heads=8.* heads=10"),
        ({"width": 0}, "width is 0, but must be at least 1"),
        ({"heads": 0}, "heads is 0, but must be at least 1"),
        ({"mlp_width": 0}, "mlp_width is 0, but must be at least 1"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0, but must be at least 0 and below 1"),
        ({"width": 16.0}, "width is 16.0, but must be a whole number"),
        ({"heads": "8"}, "heads is '8', but must be a whole number"),
    ],
)
def test_a_wrong_size_is_refused_by_the_constructor(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **fields)


def test_wrong_use_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="kernel_size is 0, but must be at least 1"):
        PrimerEZBlock(WIDTH, kernel_size=0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="length is 0, but must be at least 1"):
        PrimerBlock(WIDTH, length=0, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="rngs"):
        PrimerEZBlock(WIDTH)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"7 positions, but the block was built with length=6; build it with length=7"):
        make("PRIMER")(jnp.ones((1, 7, WIDTH)))


@BLOCKS
def test_an_input_that_does_not_fit_is_an_error_with_a_remedy(name: str) -> None:
    block, x = make(name), jnp.ones((2, 4, WIDTH))
    with pytest.raises(ValueError, match=r"shape \[4, 16\], but the block takes \[batch, length, 16\]; reshape it"):
        block(x[0])
    with pytest.raises(ValueError, match=r"shape \[2, 4, 8\], but .* build the block with width=8"):
        block(x[..., :8])
    with pytest.raises(ValueError, match=r"x is a list, but must be an array; use jnp.asarray\(x\)"):
        block(x.tolist())
    with pytest.raises(ValueError, match=r"positions have shape \[3\], but must have shape \[4\] or \[2, 4\]"):
        block(x, positions=jnp.arange(3))
    with pytest.raises(ValueError, match=r"mask has shape \[2, 1, 4, 3\], but must broadcast to .* \[2, 8, 4, 4\]"):
        block(x, mask=jnp.ones((2, 1, 4, 3), bool))
    with pytest.raises(ValueError, match="mask is float32, but must be boolean"):
        block(x, mask=jnp.ones((1, 1, 4, 4)))
    square = jnp.ones((4, 4, WIDTH))
    for given in ({}, {"segment_ids": jnp.ones((4, 4), int)})[: 1 if name == "PRIMER" else 2]:
        with pytest.raises(ValueError, match=r"mask has shape \[4, 4\], but must have the axes \[batch, heads,"):
            block(square, mask=jnp.ones((4, 4), bool), **given)


def test_heads_of_an_odd_width_have_no_rotary_positions() -> None:
    attention = MultiHeadAttention(9, heads=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="heads have 3 channels"):
        attention(jnp.ones((1, 2, 9)), positions=jnp.arange(2))


def test_squared_relu_is_the_square_of_relu(rng: np.random.Generator) -> None:
    x = random_input(rng)
    np.testing.assert_allclose(models.SquaredReLU()(x), np.maximum(x, 0) ** 2, rtol=1e-6)


def test_every_public_name_of_models_can_be_imported() -> None:
    assert [name for name in models.__all__ if not hasattr(models, name)] == []


@BLOCKS
def test_an_unknown_argument_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match="presicion"):
        make(name, presicion=jnp.float32)
