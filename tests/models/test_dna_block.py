"""A DNA as a Flax NNX module."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models
from primer_search.models import DNABlock
from primer_search.models.block import compile_block
from primer_search.primitives.errors import InvalidProgramError, UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.parameters import parameter_count
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble

WIDTH, LENGTH = 32, 6


def make(name: str, **fields: object) -> DNABlock:
    settings: dict[str, object] = {"width": WIDTH, "length": LENGTH, "rngs": nnx.Rngs(0)}
    return DNABlock(library.get(name, WIDTH // 8), **(settings | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["TRANSFORMER", "TRANSFORMER_PP", "PRIMER_EZ", "PRIMER"])
def test_a_module_computes_what_its_program_does(name: str, rng: np.random.Generator) -> None:
    module = make(name)
    x = rng.standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    block = compile_block(build_graph(library.get(name, WIDTH // 8)), WIDTH // 8, LENGTH)
    parameters = {key: leaf[...] for key, leaf in module.parameters.items()}
    output = nnx.jit(lambda module, x: module(x))(module, x)
    assert output.shape == x.shape
    np.testing.assert_allclose(output, jax.jit(block.apply)(parameters, x), rtol=1e-5, atol=1e-5)


def test_all_learned_arrays_are_nnx_parameters() -> None:
    module = make("PRIMER")
    state = nnx.state(module, nnx.Param)
    graph = build_graph(library.PRIMER)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameter_count(graph, WIDTH // 8, LENGTH)
    assert set(module.parameters) == {spec.name for spec in compile_block(graph, WIDTH // 8, LENGTH).specs}


def test_every_parameter_gets_a_gradient() -> None:
    module = make("PRIMER_EZ")
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, WIDTH))
    gradients = nnx.jit(nnx.grad(lambda module: jnp.sum(jnp.sin(module(x)))))(module)
    leaves = jax.tree.leaves(gradients)
    assert len(leaves) == len(module.parameters)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in leaves)


def test_the_seed_determines_the_parameters() -> None:
    one, same, other = (make("TRANSFORMER", rngs=nnx.Rngs(seed)) for seed in (1, 1, 2))
    leaves = [jax.tree.leaves(nnx.state(module, nnx.Param)) for module in (one, same, other)]
    assert all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))


def test_dtypes_are_those_given() -> None:
    module = make("PRIMER_EZ", dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
    assert module(jnp.ones((1, LENGTH, WIDTH))).dtype == jnp.bfloat16
    follows = make("PRIMER_EZ")
    assert follows(jnp.ones((1, LENGTH, WIDTH), jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_module_survives_splitting_and_merging() -> None:
    module = make("TRANSFORMER_PP")
    x = jnp.ones((1, LENGTH, WIDTH))
    merged = nnx.merge(*nnx.split(module))
    np.testing.assert_array_equal(merged(x), module(x))


def test_any_length_is_taken_unless_the_program_is_tied_to_one() -> None:
    module = make("TRANSFORMER")
    assert module.length is None
    assert module(jnp.ones((1, 3, WIDTH))).shape == (1, 3, WIDTH)
    tied = make("PRIMER")
    assert tied.length == LENGTH
    with pytest.raises(UsageError, match="x has 3 positions, but the program is tied to length=6"):
        tied(jnp.ones((1, 3, WIDTH)))
    with pytest.raises(UsageError, match="length is missing"):
        make("PRIMER", length=None)


# --- decoding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PRIMER_EZ", "PRIMER"])
def test_a_module_decodes_to_its_output_compiled_or_not(name: str, rng: np.random.Generator) -> None:
    module = make(name)
    x = jnp.asarray(rng.standard_normal((2, LENGTH, WIDTH)), jnp.float32)
    expected = module(x)
    module.init_cache(x.shape)
    prompt = module(x[:, :4], decode=True)
    step = nnx.jit(lambda module, x: module(x, decode=True))
    output = jnp.concatenate([prompt, step(module, x[:, 4:5]), step(module, x[:, 5:])], axis=1)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.isnan(step(module, x[:, :1])).all()


def test_a_cache_changes_nothing_else() -> None:
    module = make("PRIMER_EZ")
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, WIDTH))
    before, output = jax.tree.map(np.asarray, nnx.state(module, nnx.Param)), module(x)
    assert not jax.tree.leaves(nnx.state(module, nnx.Cache))
    module.init_cache(x.shape)
    module(x[:, :2], decode=True)
    after = nnx.state(module, nnx.Param)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True))
    np.testing.assert_array_equal(module(x), output)


def test_a_new_cache_starts_at_the_first_position() -> None:
    module = make("TRANSFORMER", dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (1, 3, WIDTH))
    outputs = []
    for _ in range(2):
        module.init_cache((1, LENGTH, WIDTH), dtype=jnp.bfloat16)
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(module, nnx.Cache))} == {
            jnp.dtype(jnp.bfloat16),
            jnp.dtype(jnp.int32),
        }
        outputs.append(module(x, decode=True))
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].dtype == jnp.bfloat16


def test_a_clone_decodes_independently() -> None:
    module = make("TRANSFORMER_PP")
    module.init_cache((1, LENGTH, WIDTH))
    x = jax.random.normal(jax.random.key(0), (1, 2, WIDTH))
    module(x, decode=True)
    clone = nnx.clone(module)
    np.testing.assert_array_equal(clone(x, decode=True), module(x, decode=True))


def test_wrong_decoding_is_an_error_with_a_remedy() -> None:
    module = make("PRIMER")
    with pytest.raises(UsageError, match=r"cache .* missing.*init_cache\(\(batch, longest, width\)\)"):
        module(jnp.ones((1, 1, WIDTH)), decode=True)
    for shape in ((1, LENGTH), (1, LENGTH, 16)):
        with pytest.raises(UsageError, match=r"input_shape is \(1, 6.* \(batch, longest, 32\)"):
            module.init_cache(shape)
    with pytest.raises(UsageError, match="length is 3, but the program is tied to length=6"):
        module.init_cache((1, 3, WIDTH))
    module.init_cache((1, LENGTH, WIDTH))
    with pytest.raises(UsageError, match="x has 7 positions, but the cache has room for 6"):
        module(jnp.ones((1, 7, WIDTH)), decode=True)
    with pytest.raises(UsageError, match="x has 2 sequences, but the cache has 1"):
        module(jnp.ones((2, 1, WIDTH)), decode=True)
    with pytest.raises(UsageError, match=r"x has shape \[1, 32\].* \[batch, length, 32\]"):
        module(jnp.ones((1, WIDTH)), decode=True)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 4, 36, -8])
def test_a_width_that_is_not_a_multiple_of_8_is_refused(width: int) -> None:
    with pytest.raises(UsageError, match=f"width is {width}"):
        make("TRANSFORMER", width=width)


@pytest.mark.parametrize("width", [64.0, "64"])
def test_a_width_that_is_no_whole_number_is_refused(width: Any) -> None:
    with pytest.raises(UsageError, match="positive multiple of 8"):
        make("TRANSFORMER", width=width)


def test_a_list_of_numbers_is_an_input() -> None:
    block, x = make("TRANSFORMER"), jnp.ones((1, 2, 32))
    np.testing.assert_array_equal(block(x.tolist()), block(x))  # type: ignore[arg-type]


def test_a_stack_of_blocks_gets_its_caches_layer_by_layer_only() -> None:
    dna = library.get("PRIMER_EZ", unit=4)
    blocks = nnx.vmap(lambda rngs: DNABlock(dna, width=32, rngs=rngs))(nnx.Rngs(0).split(2))
    with pytest.raises(ValueError, match=r"a stack of blocks.* use nnx.vmap\(lambda block: block.init_cache"):
        blocks.init_cache((1, 4, 32))
    nnx.vmap(lambda block: block.init_cache((1, 4, 32)))(blocks)
    assert blocks.cache is not None and blocks.cache["position"].shape == (2,)


@pytest.mark.parametrize("shape", [(6, 32), (2, 6, 16), (1, 2, 6, 32)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"x has shape \[.* \[batch, length, 32\]"):
        make("TRANSFORMER")(jnp.ones(shape))


def test_a_program_too_narrow_for_its_width_is_refused() -> None:
    text = {"main": "y = f h0 branches=16", "f": "y = CONV_1X1 h0 width=1"}
    dna = assemble(text, {"zero": 0.0}, (1,))
    with pytest.raises(InvalidProgramError, match="not a whole number"):
        DNABlock(dna, width=64, rngs=nnx.Rngs(0))


def test_the_package_imports_neither_jax_nor_flax_until_they_are_needed() -> None:
    check = "import sys, primer_search.models; print({'jax', 'flax'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_public_names_can_be_imported() -> None:
    for name in primer_search.models.__all__:
        assert getattr(primer_search.models, name).__name__ == name
    assert set(primer_search.models.__all__) <= set(dir(primer_search.models))
    with pytest.raises(AttributeError, match="no attribute 'Perceptron'"):
        _ = primer_search.models.Perceptron  # type: ignore[attr-defined]
