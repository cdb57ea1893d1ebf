"""Masks of exported blocks: positions read what the mask allows, whole or decoded, or the mask is refused."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import primer_search.models as models
from primer_search.models.export import API
from primer_search.models.export.exported_module import ExportedFunctions, load_source
from primer_search.primitives import DNA
from primer_search.primitives.graphs.parameters import draw_parameters, parameter_specs
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import edge_case
from primer_search.tests.support.exported_programs import APIS, UNIT, small_program, source_of
from primer_search.tests.support.hand_written_blocks import HEADS, assert_close, compiled, from_program
from primer_search.tests.support.packed_texts import LENGTH, SEGMENT_IDS

pytestmark = pytest.mark.usefixtures("no_rank_promotion")

WIDTH = 8 * UNIT
PADDING = 3
PIECES = (PADDING + 2, 1, LENGTH - 3)

PROGRAMS: dict[str, DNA] = {
    "TRANSFORMER": library.get("TRANSFORMER", UNIT),
    "PRIMER_EZ": library.get("PRIMER_EZ", UNIT),
    "masked scores without a softmax": small_program(
        "q = CONV_1X1 h0 width=8\nk = CONV_3X1 h0 width=8\nqk = T_MAT_MUL q k\nm = MASK qk\nv = DCONV_7X1 h0\n"
        "r = MAT_MUL m v\ny = ADD r h0"
    ),
}


def functions_of(dna: DNA, api: API, rng: np.random.Generator) -> tuple[ExportedFunctions, Any]:
    """The functions of an export, and random parameters, float32."""
    exported = source_of(dna, api=api)
    by_node = draw_parameters(exported.graph, UNIT, rng, LENGTH)
    carried = {}
    for spec, placement in zip(parameter_specs(exported.graph, UNIT, LENGTH), exported.placements, strict=True):
        array = np.asarray(by_node[spec.node][spec.key], np.float32)
        carried[placement.path] = jnp.asarray(placement.to_module_layout(array))
    return ExportedFunctions(load_source(exported.source), api, WIDTH, None), carried


@APIS
@pytest.mark.parametrize("name", PROGRAMS)
def test_random_padding_behind_a_mask_changes_nothing(name: str, api: API, rng: np.random.Generator) -> None:
    functions, parameters = functions_of(PROGRAMS[name], api, rng)
    x = jnp.asarray(rng.standard_normal((2, LENGTH, WIDTH)), jnp.float32)
    padding = jnp.asarray(rng.standard_normal((2, PADDING, WIDTH)), jnp.float32)
    padded, mask = jnp.concatenate([padding, x], axis=1), (jnp.arange(PADDING + LENGTH) >= PADDING)[None, None, None]

    @jax.jit
    def run(x: jax.Array, padded: jax.Array) -> tuple[jax.Array, ...]:
        return (
            functions.apply(parameters, x),
            functions.apply(parameters, padded, mask=mask),
            functions.decode(parameters, padded, PIECES, mask=mask),
            functions.apply(parameters, padded),
        )

    wanted, whole, decoded, unmasked = run(x, padded)
    assert_close(whole[:, PADDING:], wanted, "the padded sequence")
    assert_close(decoded[:, PADDING:], wanted, "the padded sequence, decoded")
    assert np.isfinite(whole).all()
    assert np.abs(unmasked[:, PADDING:] - wanted).max() > 1e-2


@APIS
def test_a_mask_says_what_segment_ids_say(api: API, rng: np.random.Generator) -> None:
    functions, parameters = functions_of(library.get("PRIMER_EZ", UNIT), api, rng)
    x = jnp.asarray(rng.standard_normal((*SEGMENT_IDS.shape, WIDTH)), jnp.float32)
    texts = np.cumsum(np.diff(SEGMENT_IDS, axis=1, prepend=SEGMENT_IDS[:, :1]) != 0, axis=1)
    mask = (texts[:, :, None] == texts[:, None])[:, None]

    @jax.jit
    def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return functions.apply(parameters, x, mask=mask), functions.apply(parameters, x, segment_ids=SEGMENT_IDS)

    found, wanted = run(x)
    assert_close(found, wanted, "the output")


def test_any_mask_of_an_exported_block_is_that_of_the_block_written_by_hand(rng: np.random.Generator) -> None:
    program = compiled("PRIMER_EZ")
    own = program.draw(rng)
    exported = source_of(library.get("PRIMER_EZ", UNIT))
    carried = {p.path: jnp.asarray(p.to_module_layout(own[p.name])) for p in exported.placements}
    functions = ExportedFunctions(load_source(exported.source), "nnx", WIDTH, None)
    by_hand = models.PrimerEZBlock(WIDTH, HEADS, rngs=nnx.Rngs(0))
    state = nnx.state(by_hand, nnx.Param)
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, from_program("PRIMER_EZ", own)))
    nnx.update(by_hand, state)
    x = jnp.asarray(rng.standard_normal((2, LENGTH, WIDTH)), jnp.float32)
    mask = jnp.asarray(rng.random((2, 1, LENGTH, LENGTH)) < 0.5).at[:, :, 2].set(False)  # a query that sees nothing
    run = jax.jit(lambda x: (functions.apply(carried, x, mask=mask), by_hand(x, mask=mask)))
    found, wanted = run(x)
    assert_close(found, wanted, "the output")


@APIS
def test_a_program_that_cannot_keep_to_a_mask_refuses_it_with_the_reason(api: API) -> None:
    x, mask = jnp.ones((1, 4, WIDTH)), jnp.ones((1, 1, 4, 4), bool)
    reasons = {
        "CUM_SUM at .* sums up all earlier positions; give segment_ids": edge_case("no history"),
        "needs the scores of earlier queries again; give segment_ids": edge_case("masked scores times scores"),
        "it depends on the sequence length, because of SCALE": library.get("PRIMER", UNIT),
    }
    for reason, dna in reasons.items():
        exported = source_of(dna, api=api)
        length = 4 if exported.graph.length_dependent else None
        functions = ExportedFunctions(load_source(exported.source), api, WIDTH, length)
        with pytest.raises(ValueError, match=f"mask is refused: .*{reason}"):
            jax.eval_shape(lambda functions=functions: functions.apply(functions.initial(4), x, mask=mask))


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((4, 1, 4, 4)),
        np.ones((4, 4), bool),  # [batch, length], as padding often is, not [queries, keys]
        np.ones((1, 4, 4), bool),
        np.ones((1, 2, 4, 4), bool),
        np.ones((3, 1, 4, 4), bool),
        np.ones((1, 1, 3, 4), bool),
        np.ones((1, 1, 1, 4, 4), bool),
    ],
    ids=lambda mask: f"{mask.dtype} {mask.shape}",
)
def test_a_mask_that_does_not_fit_is_refused_before_the_cache_changes(mask: Any) -> None:
    x, source = jnp.ones((4, 4, WIDTH)), source_of(library.get("PRIMER_EZ", UNIT)).source
    block = load_source(source)(WIDTH, rngs=nnx.Rngs(0))
    says = re.escape("mask must be booleans that broadcast to [4, 1, 4, ")
    with pytest.raises(ValueError, match=says):
        block(x, mask=mask)
    block.init_cache(x.shape)
    with pytest.raises(ValueError, match=says):
        block(x, decode=True, mask=mask)
    assert block.position.index[...] == 0


@APIS
@pytest.mark.parametrize("name", ["TRANSFORMER", "one position"])
def test_ids_and_masks_are_checked_by_every_program_that_takes_them(name: str, api: API) -> None:
    """Also by one whose positions read nothing of each other, so that neither can change its outputs."""
    dna = small_program("a = CONV_1X1 h0 width=8\ny = TANH a") if name == "one position" else PROGRAMS[name]
    functions = ExportedFunctions(load_source(source_of(dna, api=api).source), api, WIDTH, None)
    parameters, x = functions.initial(4), jnp.ones((2, 4, WIDTH))
    ids, mask = np.zeros((2, 4), int), np.ones((2, 1, 4, 4), bool)
    assert functions.apply(parameters, x, mask=mask).shape == functions.apply(parameters, x, segment_ids=ids).shape
    for says, given in {
        "segment_ids must be integers": {"segment_ids": ids[:, :3]},
        "mask must be booleans": {"mask": ids},
        "give segment_ids or a mask, not both": {"segment_ids": ids, "mask": mask},
    }.items():
        with pytest.raises(ValueError, match=says):
            functions.apply(parameters, x, **given)
