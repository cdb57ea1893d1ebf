"""Loading of trained parameters into a `DNABlock` and into exported NNX and Linen modules."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from primer_search.models import DNABlock, linen_params, load_weights_into
from primer_search.models.block import compile_block
from primer_search.models.checkpoint import Weights, save_weights
from primer_search.models.checkpoint_files import flatten
from primer_search.models.export import API, write_export
from primer_search.models.export.load_into_modules import module_parameters
from primer_search.primitives import DNA, UsageError
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE, CONSTANTS
from primer_search.tests.support.tiny_weights import SHAPE, TIED, drawn_weights

PRIMER_EZ = get("PRIMER_EZ", 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "12"
    save_weights(folder, drawn_weights(BASELINE, candidate=12))
    return folder


def trained_layer(weights: Weights, layer: int, x: jax.Array) -> jax.Array:
    """What the trained model's layer makes of an input."""
    block = compile_block(weights.graph, weights.model.unit, weights.model.length)
    return jax.jit(block.apply)({name: array[layer] for name, array in weights.parameters["blocks"].items()}, x)


def exported(path: Path, api: API) -> Callable[..., Any]:
    """The class of an exported block."""
    write_export(path, PRIMER_EZ, name="Block", unit=2, length=8, api=api)
    spec = spec_from_file_location(f"exported_with_{api}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Block


@pytest.fixture(scope="module")
def exported_nnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., nnx.Module]:
    return exported(tmp_path_factory.mktemp("exported") / "block.py", "nnx")


def assembled_with(dna: DNA, op: str, other: str) -> DNA:
    """The program with one op instead of another."""
    return dna_from_json(dna_to_json(dna).replace(f'"{op}"', f'"{other}"'))


def run(block: nnx.Module, x: jax.Array) -> jax.Array:
    return block(x)  # type: ignore[operator]


@pytest.mark.parametrize("layer", [0, 1])
def test_a_dna_block_computes_what_the_trained_layer_computes(layer: int, rng: np.random.Generator) -> None:
    weights = drawn_weights(PRIMER_EZ, replace(SHAPE, unit=2))
    block = DNABlock(PRIMER_EZ, width=16, rngs=nnx.Rngs(0))
    load_weights_into(block, weights, layer=layer)
    x = jnp.asarray(rng.standard_normal((2, 5, 16)), jnp.float32)
    np.testing.assert_allclose(nnx.jit(run)(block, x), trained_layer(weights, layer, x), atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_an_exported_module_computes_what_the_trained_layer_computes(
    layer: int, exported_nnx: Callable[..., nnx.Module], rng: np.random.Generator
) -> None:
    weights = drawn_weights(PRIMER_EZ, replace(SHAPE, unit=2))
    block = exported_nnx(16, rngs=nnx.Rngs(0))
    load_weights_into(block, weights, layer=layer)
    x = jnp.asarray(rng.standard_normal((2, 5, 16)), jnp.float32)
    np.testing.assert_allclose(nnx.jit(run)(block, x), trained_layer(weights, layer, x), atol=1e-5)


@pytest.mark.parametrize("block", [nn.Dense(8), DNABlock], ids=["a Linen module", "a class"])
def test_a_block_that_is_not_an_nnx_module_is_refused(block: Any, saved: Path) -> None:
    with pytest.raises(UsageError, match="use linen_params"):
        load_weights_into(block, saved)


def test_weights_take_the_dtype_of_the_block(saved: Path) -> None:
    block = DNABlock(BASELINE, width=8, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    load_weights_into(block, saved)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(block, nnx.Param))} == {jnp.dtype(jnp.bfloat16)}


def test_linen_parameters_make_an_exported_linen_module_compute_the_trained_layer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    weights = drawn_weights(PRIMER_EZ, replace(SHAPE, unit=2))
    block = exported(tmp_path / "block.py", "linen")(16)
    x = jnp.asarray(rng.standard_normal((2, 5, 16)), jnp.float32)
    found = jax.jit(block.apply)({"params": linen_params(weights, layer=1)}, x)
    np.testing.assert_allclose(found, trained_layer(weights, 1, x), atol=1e-5)


def test_the_exported_layout_holds_the_whole_model() -> None:
    weights = drawn_weights(BASELINE)
    tree = module_parameters(weights)
    assert set(tree) == {"embedding", "final_norm", "layers"}
    assert set(tree["layers"]) == {"0", "1"}
    sizes = (sum(array.size for array in flatten(each).values()) for each in (tree, weights.parameters))
    assert len(set(sizes)) == 1


WRONG_BLOCKS: dict[str, tuple[Callable[[], nnx.Module], int, str]] = {
    "another program": (lambda: DNABlock(PRIMER_EZ, width=16, rngs=nnx.Rngs(0)), 0, "another program"),
    "another constant": (
        lambda: DNABlock(replace(get("PRIMER_EZ", 2), constants=tuple(CONSTANTS.values())), width=16, rngs=nnx.Rngs(0)),
        0,
        "another program",
    ),
    "another width": (
        lambda: DNABlock(BASELINE, width=16, rngs=nnx.Rngs(0)),
        0,
        "is [16, 16] in the block and [8, 8] in the weights",
    ),
    "a layer too many": (lambda: DNABlock(BASELINE, width=8, rngs=nnx.Rngs(0)), 2, "layer is 2"),
    "a module of other parameters": (lambda: nnx.Linear(8, 8, rngs=nnx.Rngs(0)), 0, "another program"),
}


@pytest.mark.parametrize("case", WRONG_BLOCKS)
def test_a_block_of_another_program_or_size_is_unchanged(case: str, saved: Path) -> None:
    make, layer, hint = WRONG_BLOCKS[case]
    block = make()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(block, nnx.Param))]
    with pytest.raises(UsageError, match=re.escape(hint)):
        load_weights_into(block, saved, layer=layer)
    after = jax.tree.leaves(nnx.state(block, nnx.Param))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_exported_block_of_another_program_with_the_same_parameters_is_unchanged(
    exported_nnx: Callable[..., nnx.Module],
) -> None:
    """The program takes the square of ReLU where the block does not: names and shapes are the same."""
    other = assembled_with(PRIMER_EZ, "SQUARE", "ABS")
    block = exported_nnx(16, rngs=nnx.Rngs(0))
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(block, nnx.Param))]
    with pytest.raises(UsageError, match="block's outputs with them are not"):
        load_weights_into(block, drawn_weights(other, replace(SHAPE, unit=2)))
    after = jax.tree.leaves(nnx.state(block, nnx.Param))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_program_tied_to_a_length_has_weights_for_it(rng: np.random.Generator) -> None:
    weights = drawn_weights(TIED)
    block = DNABlock(TIED, width=8, length=8, rngs=nnx.Rngs(0))
    load_weights_into(block, weights)
    x = jnp.asarray(rng.standard_normal((1, 8, 8)), jnp.float32)
    np.testing.assert_allclose(nnx.jit(run)(block, x), trained_layer(weights, 0, x), rtol=1e-5, atol=1e-5)
