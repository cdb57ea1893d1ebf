"""Masks of `DNABlock`: positions read what the mask allows, whole or decoded, or the mask is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models
from primer_search.models import DNABlock
from primer_search.models.block import compile_block
from primer_search.models.export.exported_module import ExportedFunctions, load_source
from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import edge_case
from primer_search.tests.support.exported_programs import UNIT, small_program, source_of
from primer_search.tests.support.hand_written_blocks import assert_close
from primer_search.tests.support.packed_texts import LENGTH, SEGMENT_IDS

pytestmark = pytest.mark.usefixtures("no_rank_promotion")

WIDTH = 8 * UNIT
LEFT, RIGHT = 3, 2
WHOLE = LEFT + LENGTH + RIGHT
PIECES = (LEFT + 2, 1, 4, 3)

PROGRAMS: dict[str, DNA] = {
    "TRANSFORMER": library.get("TRANSFORMER", UNIT),
    "PRIMER_EZ": library.get("PRIMER_EZ", UNIT),
    "convolutions in branches, and scores without a softmax": small_program(
        "c = inner h0 h0 branches=2\nk = CONV_3X1 h0 width=8\nqk = T_MAT_MUL h0 k\nm = MASK qk\nr = MAT_MUL m c\n"
        "y = ADD r h0",
        inner="v = CONV_7X1 h0 width=8\nw = DCONV_3X1 h1\nx = CONV_1X1 w width=8\ny = ADD v x",
    ),
}
NAMES = pytest.mark.parametrize("name", PROGRAMS)


@NAMES
def test_random_padding_on_both_sides_changes_nothing(name: str, rng: np.random.Generator) -> None:
    block = compile_block(build_graph(PROGRAMS[name]), UNIT)
    by_node = draw_parameters(block.graph, UNIT, rng, LENGTH)
    padded = rng.standard_normal((2, WHOLE, WIDTH))
    text = slice(LEFT, LEFT + LENGTH)
    wanted = evaluate_reference(block.graph, by_node, padded[:, text])
    position = jnp.arange(WHOLE)
    mask = ((position >= LEFT) & (position < LEFT + LENGTH))[None, None, None]

    def run(parameters: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        cache, pieces = block.init_cache(len(x), WHOLE, x.dtype), []
        for piece in jnp.split(x, np.cumsum(PIECES)[:-1], axis=1):
            y, cache = block.decode(parameters, cache, piece, mask=mask)
            pieces.append(y)
        whole, pull = jax.vjp(lambda x: block.apply(parameters, x, mask=mask), x)
        gradient = pull(jnp.zeros_like(whole).at[:, text].set(1))[0]
        return whole, jnp.concatenate(pieces, axis=1), gradient, block.apply(parameters, x)

    with jax.enable_x64(True):
        parameters = {spec.name: jnp.asarray(by_node[spec.node][spec.key]) for spec in block.specs}
        whole, decoded, gradient, unmasked = map(np.asarray, jax.jit(run)(parameters, jnp.asarray(padded)))
    size = np.abs(wanted).max()
    for what, y in (("whole", whole), ("decoded", decoded)):
        np.testing.assert_allclose(y[:, text] / size, wanted / size, atol=1e-9, err_msg=what)
        assert np.isfinite(y).all()
    assert (gradient[:, :LEFT] == 0).all() and (gradient[:, LEFT + LENGTH :] == 0).all()
    assert np.abs(gradient[:, text]).min() > 0
    assert np.abs(unmasked[:, text] - wanted).max() / size > 1e-3


@NAMES
def test_any_mask_is_that_of_the_exported_block(name: str, rng: np.random.Generator) -> None:
    exported = source_of(PROGRAMS[name])
    functions = ExportedFunctions(load_source(exported.source), "nnx", WIDTH, None)
    block = DNABlock(PROGRAMS[name], width=WIDTH, rngs=nnx.Rngs(0))
    drawn = block.functions.draw(rng)
    carried = {p.path: jnp.asarray(p.to_module_layout(drawn[p.name])) for p in exported.placements}
    for key, value in drawn.items():
        block.parameters[key][...] = jnp.asarray(value)
    x = jnp.asarray(rng.standard_normal((2, WHOLE, WIDTH)), jnp.float32)
    mask = jnp.asarray(rng.random((2, 1, WHOLE, WHOLE)) < 0.5).at[:, :, 2].set(False)  # a row that may read nothing

    @nnx.jit
    def run(block: DNABlock, x: jax.Array) -> tuple[jax.Array, ...]:
        block.init_cache(x.shape)
        cuts = np.cumsum(PIECES)[:-1]
        pairs = zip(jnp.split(x, cuts, axis=1), jnp.split(mask, cuts, axis=2), strict=True)
        decoded = [block(piece, decode=True, mask=rows) for piece, rows in pairs]
        return block(x, mask=mask), jnp.concatenate(decoded, axis=1), functions.apply(carried, x, mask=mask)

    whole, decoded, wanted = run(block, x)
    assert_close(whole, wanted, "the output")
    assert_close(decoded, wanted, "the output, decoded")


def test_a_mask_says_what_segment_ids_say(rng: np.random.Generator) -> None:
    block = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((*SEGMENT_IDS.shape, WIDTH)), jnp.float32)
    texts = np.cumsum(np.diff(SEGMENT_IDS, axis=1, prepend=SEGMENT_IDS[:, :1]) != 0, axis=1)
    mask = (texts[:, :, None] == texts[:, None])[:, None]
    run = nnx.jit(lambda block, x: (block(x, mask=mask), block(x, segment_ids=SEGMENT_IDS)))
    found, wanted = run(block, x)
    assert_close(found, wanted, "the output")


@pytest.mark.parametrize(
    ("dna", "reason"),
    [
        (edge_case("no history"), "CUM_SUM at .* sums up all earlier positions; give segment_ids"),
        (edge_case("masked scores times scores"), "needs the scores of earlier queries again; give segment_ids"),
        (library.get("PRIMER", UNIT), "it depends on the sequence length, because of SCALE"),
    ],
    ids=["running sum", "scores times scores", "tied to a length"],
)
def test_a_program_that_cannot_keep_to_a_mask_refuses_it_with_the_reason(dna: DNA, reason: str) -> None:
    block = DNABlock(dna, width=WIDTH, length=4, rngs=nnx.Rngs(0))
    x, mask = jnp.ones((1, 4, WIDTH)), jnp.ones((1, 1, 4, 4), bool)
    with pytest.raises(UsageError, match=f"a mask is refused for this program: .*{reason}"):
        block(x, mask=mask)
    block.init_cache(x.shape)
    with pytest.raises(UsageError, match="a mask is refused for this program"):
        block(x, decode=True, mask=mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((4, 1, 4, 4)),
        np.ones((4, 4), bool),  # [batch, length], as padding often is, not [queries, keys]
        np.ones((1, 2, 4, 4), bool),
        np.ones((3, 1, 4, 4), bool),
        np.ones((1, 1, 3, 4), bool),
    ],
    ids=lambda mask: f"{mask.dtype} {mask.shape}",
)
def test_a_mask_that_does_not_fit_is_refused_before_the_cache_changes(mask: Any) -> None:
    block, x = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0)), jnp.ones((4, 4, WIDTH))
    says = re.escape("but must be booleans that broadcast to [4, 1, 4, ")
    with pytest.raises(ValueError, match=says):
        block(x, mask=mask)
    block.init_cache(x.shape)
    with pytest.raises(ValueError, match=says):
        block(x, decode=True, mask=mask)
    assert block.cache is not None and block.cache["position"][...] == 0


def test_ids_and_a_mask_are_refused_together() -> None:
    block, x = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0)), jnp.ones((1, 4, WIDTH))
    with pytest.raises(ValueError, match="give segment_ids or a mask, not both"):
        block(x, segment_ids=jnp.zeros((1, 4), int), mask=jnp.ones((1, 1, 4, 4), bool))


def test_the_example_in_the_docs_is_right(rng: np.random.Generator) -> None:
    page = Path(primer_search.models.__file__).parents[1].joinpath("docs", "blocks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(mask = [^`]*)```", page)
    block = DNABlock(library.get("PRIMER_EZ", UNIT), width=WIDTH, rngs=nnx.Rngs(0))
    names: dict[str, Any] = {"jnp": jnp, "block": block, "x": jnp.asarray(rng.standard_normal((1, LENGTH, WIDTH)))}
    exec(example, names)
    assert_close(names["y"][:, 2:], block(names["x"][:, 2:]), "behind two positions of padding")
