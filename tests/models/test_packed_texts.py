"""Blocks keep packed texts and padding apart, on whole sequences and in decoding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models as models
import primer_search.models.linen as linen_models
from primer_search.models import DNABlock
from primer_search.models.block import compile_block
from primer_search.models.export import API
from primer_search.models.export.exported_module import ExportedFunctions, load_source
from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.causality.packed_texts import packing_fault
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import edge_case
from primer_search.tests.support.exported_programs import APIS, UNIT, in_both_apis, source_of, valid_programs
from primer_search.tests.support.hand_written_blocks import (
    CLASSES,
    HEADS,
    TIED,
    assert_close,
    compiled,
    from_program,
)
from primer_search.tests.support.packed_texts import LENGTH, SEGMENT_IDS, alone

pytestmark = pytest.mark.usefixtures("no_rank_promotion")

PIECES = (3, 1, 4)
WIDTH = 8 * UNIT
PACKABLE = pytest.mark.parametrize("name", [name for name in CLASSES if name not in TIED])

PROGRAMS: dict[str, DNA] = {
    "TRANSFORMER": library.get("TRANSFORMER", UNIT),
    "PRIMER_EZ": library.get("PRIMER_EZ", UNIT),
    "running ops and convolutions": edge_case("no history"),
    "branches": edge_case("branches in branches"),
    "a running sum of scores": edge_case("a running sum of scores"),
}
PROGRAMS |= {
    f"mutant {number}": dna
    for number, dna in enumerate(valid_programs(7, 6, mutate=True))
    if not packing_fault(graph := build_graph(dna, length_dependent=True))
    and not any(node.op == "LEAST_SQUARES" for node in graph.nodes)  # its steps need not converge to 1e-8
}


@in_both_apis("name", PROGRAMS, quick=("TRANSFORMER", "PRIMER_EZ", "branches"))
def test_an_exported_block_keeps_packed_texts_apart_and_decodes_them(
    name: str, api: API, rng: np.random.Generator
) -> None:
    exported = source_of(PROGRAMS[name], api=api)
    program = compile_block(exported.graph, UNIT)
    functions = ExportedFunctions(load_source(exported.source), api, program.width, None)
    by_node = draw_parameters(exported.graph, UNIT, rng, LENGTH)
    x = rng.standard_normal((*SEGMENT_IDS.shape, WIDTH))
    wanted = alone(lambda x: evaluate_reference(exported.graph, by_node, x), x)

    def run(drawn: Any, carried: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        cache, decoded = program.init_cache(len(x), LENGTH, x.dtype), []
        for piece in jnp.split(x, np.cumsum(PIECES)[:-1], axis=1):
            y, cache = program.decode(drawn, cache, piece, SEGMENT_IDS)
            decoded.append(y)
        return (
            program.apply(drawn, x, segment_ids=SEGMENT_IDS),
            jnp.concatenate(decoded, axis=1),
            functions.apply(carried, x, segment_ids=SEGMENT_IDS),
            functions.decode(carried, x, PIECES, segment_ids=SEGMENT_IDS),
        )

    with jax.enable_x64(True):
        drawn = {spec.name: jnp.asarray(by_node[spec.node][spec.key]) for spec in program.specs}
        carried = {p.path: jnp.asarray(p.to_module_layout(np.asarray(drawn[p.name]))) for p in exported.placements}
        found = jax.jit(run)(drawn, carried, jnp.asarray(x))
    size = np.abs(wanted).max()
    for what, y in zip(("compiled", "decoded", "exported", "exported and decoded"), found, strict=True):
        np.testing.assert_allclose(np.asarray(y) / size, wanted / size, atol=1e-8, rtol=0, err_msg=what)


@PACKABLE
@APIS
def test_segment_ids_of_a_block_written_by_hand_are_those_of_its_program(
    name: str, api: API, rng: np.random.Generator
) -> None:
    program = compiled(name)
    own = program.draw(rng)
    by_node: list[dict[str, np.ndarray]] = [{} for _ in program.graph.nodes]
    for spec in program.specs:
        by_node[spec.node][spec.key] = own[spec.name]
    x = rng.standard_normal((*SEGMENT_IDS.shape, WIDTH))
    wanted = alone(lambda x: evaluate_reference(program.graph, by_node, x), x)
    parameters = jax.tree.map(jnp.asarray, from_program(name, own))

    def decoded_by_nnx(block: Any, x: jax.Array, ids: Any) -> jax.Array:
        block.init_cache(x.shape)
        return jnp.concatenate([block(piece, decode=True, segment_ids=ids) for piece in split(x, PIECES)], axis=1)

    def decoded_by_linen(block: Any, x: jax.Array, ids: Any) -> jax.Array:
        cache, outputs = block.init(jax.random.key(0), x, decode=True, segment_ids=ids)["cache"], []
        for piece in split(x, PIECES):
            variables = {"params": parameters, "cache": cache}
            y, changed = block.apply(variables, piece, decode=True, mutable=["cache"], segment_ids=ids)
            cache = changed["cache"]
            outputs.append(y)
        return jnp.concatenate(outputs, axis=1)

    def run(x: jax.Array) -> list[jax.Array]:
        if api == "nnx":
            block = getattr(models, CLASSES[name])(WIDTH, HEADS, rngs=nnx.Rngs(0))
            state = nnx.state(block, nnx.Param)
            nnx.replace_by_pure_dict(state, parameters)
            nnx.update(block, state)
            return [block(x, segment_ids=SEGMENT_IDS), decoded_by_nnx(block, x, SEGMENT_IDS)]
        block = getattr(linen_models, CLASSES[name])(heads=HEADS)
        packed = block.apply({"params": parameters}, x, segment_ids=SEGMENT_IDS)
        return [packed, decoded_by_linen(block, x, SEGMENT_IDS)]

    packed, decoded = jax.jit(run)(jnp.asarray(x, jnp.float32))
    assert_close(packed, wanted, "packed")
    assert_close(decoded, wanted, "packed and decoded")


def split(x: jax.Array, pieces: tuple[int, ...]) -> list[jax.Array]:
    """The pieces of a sequence."""
    return jnp.split(x, np.cumsum(pieces)[:-1], axis=1)


def test_prompts_padded_on_the_left_decode_as_alone(rng: np.random.Generator) -> None:
    parts = nnx.split(DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0)))
    x = jnp.asarray(rng.standard_normal((2, 6, WIDTH)), jnp.float32)
    ids = jnp.array([[0, 0, 1, 1], [1, 1, 1, 1]])  # of the prompts; the new positions belong to the same texts

    @jax.jit
    def run(x: jax.Array) -> Any:
        block = nnx.merge(*parts)
        block.init_cache((2, 6, WIDTH))
        y = [block(piece, decode=True, segment_ids=ids) for piece in split(x, (4, 1, 1))]
        return jnp.concatenate(y, axis=1), block(x[:1, 2:]), block(x[1:])

    y, padded, other = run(x)
    assert_close(y[:1, 2:], padded, "the padded prompt and what follows")
    assert_close(y[1:], other, "the other")


def test_zeros_and_other_padding_give_the_same_finite_outputs_and_gradients(rng: np.random.Generator) -> None:
    block = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((1, 6, WIDTH)), jnp.float32)
    ids = jnp.array([[0, 0, 0, 1, 1, 1]])

    @nnx.jit
    def loss(block: DNABlock, x: jax.Array) -> Any:
        return nnx.grad(lambda block: jnp.square(block(x, segment_ids=ids)[:, 3:]).sum())(block)

    one, other = (loss(block, x.at[:, :3].set(padding)) for padding in (x[:, :3], jnp.zeros((1, 3, WIDTH))))
    for own, zeros in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_close(zeros, own, "a gradient")


def test_the_examples_in_the_docs_are_right(rng: np.random.Generator) -> None:
    page = Path(models.__file__).parents[1].joinpath("docs", "blocks.md").read_text(encoding="utf-8")
    whole, decoded = re.findall(r"```python\n([^`]*segment_ids[^`]*)```", page)
    block = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((1, LENGTH, WIDTH)), jnp.float32)
    names: dict[str, Any] = {"jnp": jnp, "block": block, "x": x}
    exec(whole, names)
    assert_close(names["y"][:, 3:], names["alone"], "the second text")
    names |= {"batch": 1, "longest": LENGTH + 1, "width": WIDTH, "prompts": x, "x_next": x[:, :1]}
    exec(decoded, names)
    assert_close(
        names["y"], block(jnp.concatenate([x[:, 2:], x[:, :1]], axis=1))[:, -1:], "the position after a prompt"
    )


@APIS
def test_a_block_that_depends_on_the_length_refuses_segment_ids(api: API) -> None:
    x, ids = jnp.ones((1, 4, WIDTH)), jnp.zeros((1, 4), jnp.int32)
    functions = ExportedFunctions(load_source(source_of(library.get("PRIMER", UNIT), api=api).source), api, WIDTH, 4)
    with pytest.raises(
        ValueError, match="segment_ids are refused: it depends on the sequence length, because of SCALE at self"
    ):
        functions.apply(functions.initial(4), x, segment_ids=ids)
    block = DNABlock(library.get("PRIMER", UNIT), width=WIDTH, length=4, rngs=nnx.Rngs(0))
    with pytest.raises(
        UsageError, match=r"it depends on the sequence length, because of SCALE at self.*one text a sequence"
    ):
        block(x, segment_ids=ids)
    with pytest.raises(ValueError, match=r"a scale for each position .* use PrimerEZBlock"):
        models.PrimerBlock(WIDTH, HEADS, length=4, rngs=nnx.Rngs(0))(x, segment_ids=ids)
    with pytest.raises(ValueError, match=r"a scale for each position .* use PrimerEZBlock"):
        linen_models.PrimerBlock(heads=HEADS, length=4).init(jax.random.key(0), x, segment_ids=ids)


@pytest.mark.parametrize("ids", [np.zeros(4, int), np.zeros((1, 3), int), np.zeros((2, 4), int), np.zeros((1, 4))])
def test_ids_that_do_not_fit_are_refused_before_the_cache_changes(ids: Any) -> None:
    dna, x = library.get("PRIMER_EZ", UNIT), jnp.ones((1, 4, WIDTH))
    exported = load_source(source_of(dna).source)(WIDTH, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"segment_ids must be integers \[batch, length\] for x \[1, 4, 16\]"):
        exported(x, segment_ids=ids)
    blocks = [DNABlock(dna, width=WIDTH, rngs=nnx.Rngs(0)), models.PrimerEZBlock(WIDTH, HEADS, rngs=nnx.Rngs(0))]
    for block in blocks:
        with pytest.raises(ValueError, match=r"but must be integers \[1, 4\]: one for each position"):
            block(x, segment_ids=ids)
    if ids.shape != (1, 3):
        exported.init_cache(x.shape)
        with pytest.raises(ValueError, match="segment_ids must be integers"):
            exported(x, decode=True, segment_ids=ids)
        assert exported.position.index[...] == 0
