"""Checkpoints: exact round trips in both formats, refusal of damaged files, and loading into modules."""

from __future__ import annotations

import json
import re
import shutil
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

import primer_search
from primer_search.models import DNABlock, linen_params, load_weights_into
from primer_search.models.block import compile_block
from primer_search.models.checkpoint import Weights, load_weights, save_weights
from primer_search.models.checkpoint_folder import FileFormat, flatten
from primer_search.models.checkpoint_loading import module_parameters
from primer_search.models.export import API, write_export
from primer_search.primitives import DNA, UsageError
from primer_search.primitives.assembler import assemble
from primer_search.primitives.library import get
from primer_search.primitives.program_json import dna_from_json, dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE, CONSTANTS
from primer_search.tests.support.tiny_weights import SHAPE, TIED, drawn_weights

PACKAGE = Path(primer_search.__file__).parent
FORMS: tuple[FileFormat, ...] = ("safetensors", "orbax")
PRIMER_EZ = get("PRIMER_EZ", 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "12"
    save_weights(folder, drawn_weights(BASELINE, candidate=12))
    return folder


def same_arrays(found: Weights, wanted: Weights) -> bool:
    ours, theirs = flatten(found.parameters), flatten(wanted.parameters)
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == array.dtype and np.array_equal(ours[name], array) for name, array in theirs.items()
    )


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_both_formats_give_back_exactly_what_was_saved(form: FileFormat, saved: Path) -> None:
    wanted = drawn_weights(BASELINE, candidate=12)
    found = load_weights(saved, form, dna=BASELINE)
    assert same_arrays(found, wanted)
    assert (found.dna, found.model, found.tokenizer) == (wanted.dna, wanted.model, wanted.tokenizer)
    assert found.training == {"candidate": 12}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ"])
def test_names_with_dots_of_their_own_survive(name: str, form: FileFormat, tmp_path: Path) -> None:
    wanted = drawn_weights(get(name, 2), replace(SHAPE, unit=2))
    save_weights(tmp_path / "w", wanted)
    assert same_arrays(load_weights(tmp_path / "w", form), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_a_program_without_parameters_has_weights(form: FileFormat, tmp_path: Path) -> None:
    still = assemble({"main": "bent = TANH h0"}, {"zero": 0.0}, (8,))
    save_weights(tmp_path / "w", drawn_weights(still))
    assert load_weights(tmp_path / "w", form).parameters["blocks"] == {}


@pytest.mark.parametrize(
    ("present", "gone"), [("model.safetensors", "checkpoint"), ("checkpoint", "model.safetensors")]
)
def test_either_format_is_enough(present: str, gone: str, saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "w")
    shutil.rmtree(folder / gone) if (folder / gone).is_dir() else (folder / gone).unlink()
    assert (folder / present).exists()
    assert same_arrays(load_weights(folder), drawn_weights(BASELINE))


def test_weights_are_replaced_only_with_overwrite_and_no_temporary_folder_is_left(tmp_path: Path) -> None:
    first, second = drawn_weights(BASELINE, seed=1), drawn_weights(BASELINE, seed=2)
    save_weights(tmp_path / "w", first)
    with pytest.raises(UsageError, match="--force"):
        save_weights(tmp_path / "w", second)
    assert same_arrays(load_weights(tmp_path / "w"), first)
    save_weights(tmp_path / "w", second, overwrite=True)
    assert same_arrays(load_weights(tmp_path / "w"), second)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_failed_save_leaves_the_existing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path / "w", drawn_weights(BASELINE, seed=1))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(UsageError, match="No space left"):
        save_weights(tmp_path / "w", drawn_weights(BASELINE, seed=2), overwrite=True)
    assert same_arrays(load_weights(tmp_path / "w"), drawn_weights(BASELINE, seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


DAMAGE: dict[str, tuple[Callable[[Path], object], FileFormat, str]] = {
    "no folder": (shutil.rmtree, "safetensors", "no model.json"),
    "no description": (lambda w: (w / "model.json").unlink(), "safetensors", "no model.json"),
    "a torn description": (lambda w: truncate(w / "model.json"), "safetensors", "not a JSON text"),
    "another format": (
        lambda w: rewrite(w / "model.json", lambda facts: facts.update(format=9)),
        "safetensors",
        "format is 9, but must be 1",
    ),
    "an invalid program": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["dna"].pop("constants")),
        "safetensors",
        "model.json is damaged (dna: ",
    ),
    "a width that is a string": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(unit="wide")),
        "safetensors",
        "model.unit",
    ),
    "a model of another width": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(unit=2)),
        "safetensors",
        "embedding is [300, 8], but must be [300, 16]",
    ),
    "a model of more layers": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(layers=3)),
        "orbax",
        "is [2, 8, 8], but must be [3, 8, 8]",
    ),
    "a program of other parameters": (
        lambda w: rewrite(
            w / "model.json", lambda facts: facts.update(dna=json.loads(dna_to_json(get("TRANSFORMER", 1))))
        ),
        "safetensors",
        "does not fit the program",
    ),
    "a torn safetensors file": (lambda w: truncate(w / "model.safetensors"), "safetensors", "is damaged"),
    "no safetensors file": (
        lambda w: (w / "model.safetensors").unlink(),
        "safetensors",
        "model.safetensors is missing",
    ),
    "no checkpoint": (lambda w: shutil.rmtree(w / "checkpoint"), "orbax", "checkpoint is missing"),
    "a torn checkpoint": (
        lambda w: truncate(next((w / "checkpoint" / "state" / "d").iterdir())),
        "orbax",
        "is damaged",
    ),
    "a checkpoint with a hole": (
        lambda w: next((w / "checkpoint" / "state" / "d").iterdir()).unlink(),
        "orbax",
        "missing or unreadable",
    ),
    "a changed tokenizer": (lambda w: truncate(w / "tokenizer.json"), "safetensors", "tokenizer.json is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_weights_are_refused_with_one_sentence(case: str, saved: Path, tmp_path: Path) -> None:
    damage, form, hint = DAMAGE[case]
    damage(shutil.copytree(saved, tmp_path / "w"))
    with pytest.raises(UsageError) as refusal:
        load_weights(tmp_path / "w", form)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_program_are_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="of another program"):
        load_weights(saved, dna=PRIMER_EZ)


def test_no_module_with_weights_can_unpickle() -> None:
    loaders = re.compile(r"pickle|marshal|joblib|shelve|torch|np\.load|numpy\.load|allow_pickle|eval\(|exec\(")
    files = ("checkpoint", "checkpoint_folder", "checkpoint_loading", "generation")
    for name in (*(f"models/{file}.py" for file in files), "search/train_weights.py", "search/export_block.py"):
        code = (PACKAGE / name).read_text().replace("ever unpickled", "")
        assert not loaders.search(code), name


# --- modules ------------------------------------------------------------------------------------------------------


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
    """The program with one op in place of another."""
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
    with pytest.raises(UsageError, match="outputs with them differ"):
        load_weights_into(block, drawn_weights(other, replace(SHAPE, unit=2)))
    after = jax.tree.leaves(nnx.state(block, nnx.Param))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_program_tied_to_a_length_has_weights_for_it(rng: np.random.Generator) -> None:
    weights = drawn_weights(TIED)
    block = DNABlock(TIED, width=8, length=8, rngs=nnx.Rngs(0))
    load_weights_into(block, weights)
    x = jnp.asarray(rng.standard_normal((1, 8, 8)), jnp.float32)
    np.testing.assert_allclose(nnx.jit(run)(block, x), trained_layer(weights, 0, x), rtol=1e-5, atol=1e-5)
