"""Prefixes in compiled blocks and models: equal to a slow reference, decoded or not; no target leaks into a prefix."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import compile_block
from primer_search.models.generation import Sampling, generate
from primer_search.models.training_batch import TrainingBatch
from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.causality.packed_texts import packing_fault
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import edge_case
from primer_search.tests.support.exported_programs import UNIT, valid_programs
from primer_search.tests.support.packed_texts import LENGTH, SEGMENT_IDS
from primer_search.tests.support.prefixes import PREFIX, reference
from primer_search.tests.support.small_models import small_model

PROGRAMS: dict[str, DNA] = {
    "TRANSFORMER_PP": library.get("TRANSFORMER_PP", UNIT),
    "PRIMER_EZ": library.get("PRIMER_EZ", UNIT),
    "branches": edge_case("branches in branches"),
    "a running sum of scores": edge_case("a running sum of scores"),
    "scores times scores": edge_case("masked scores times masked scores"),
}
PROGRAMS |= {
    f"mutant {number}": dna
    for number, dna in enumerate(valid_programs(11, 3, mutate=True))
    if not packing_fault(build_graph(dna, length_dependent=True))
}


@pytest.mark.usefixtures("no_rank_promotion")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_block_with_texts_and_prefixes_equals_the_slow_reference_decoded_or_not(
    name: str, rng: np.random.Generator
) -> None:
    block = compile_block(build_graph(PROGRAMS[name]), UNIT)
    by_node = draw_parameters(block.graph, UNIT, rng, LENGTH)
    x = rng.standard_normal((*SEGMENT_IDS.shape, 8 * UNIT))
    single = np.zeros_like(SEGMENT_IDS)
    first = np.arange(LENGTH)[None] < np.array([[5], [0], [3]])
    wanted = [reference(block.graph, by_node, x), reference(block.graph, by_node, x, single, first)]

    def run(parameters: Any, x: jax.Array) -> list[jax.Array]:
        cache, pieces = block.init_cache(len(x), LENGTH, x.dtype), []
        for piece in (x[:, :5], x[:, 5:6], x[:, 6:]):
            y, cache = block.decode(parameters, cache, piece, prefix=first)
            pieces.append(y)
        return [
            block.apply(parameters, x, segment_ids=SEGMENT_IDS, prefix=PREFIX),
            block.apply(parameters, x, prefix=first),
            jnp.concatenate(pieces, axis=1),
        ]

    with jax.enable_x64(True):
        parameters = {spec.name: jnp.asarray(by_node[spec.node][spec.key]) for spec in block.specs}
        packed, alone, decoded = jax.jit(run)(parameters, jnp.asarray(x))
    for found, expected in ((packed, wanted[0]), (alone, wanted[1]), (decoded, wanted[1])):
        size = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(found) / size, expected / size, atol=1e-8)


@pytest.mark.parametrize(("name", "stack"), [("PRIMER_EZ", "unroll"), ("TRANSFORMER", "scan")])
def test_the_gradient_of_a_prefix_with_respect_to_targets_is_zero(
    name: str, stack: str, rng: np.random.Generator
) -> None:
    model = small_model(name, stack=stack)
    parameters = model.draw(rng)
    prefix = jnp.arange(8)[None] < 5

    def outputs(x: jax.Array) -> jax.Array:
        return model._stack(parameters["blocks"], x, prefix=prefix)[0]

    x = jnp.asarray(rng.standard_normal((1, 8, 16)), jnp.float32)
    reach = np.abs(jax.jit(jax.jacrev(lambda x: outputs(x)[0].sum(axis=-1)))(x)[:, 0]).max(axis=-1)  # [output, input]
    assert (reach[:5, 5:] == 0).all() and (np.triu(reach[5:, 5:], 1) == 0).all()
    assert (reach[:5, :5] > 0).all() and (np.tril(reach)[5:][:, :5] > 0).all()


def test_a_target_token_changes_no_loss_before_it(rng: np.random.Generator) -> None:
    model = small_model("PRIMER_EZ")
    parameters, tokens = model.draw(rng), rng.integers(300, size=(2, 9)).astype(np.int32)
    prefix = np.arange(9)[None] < np.array([[5], [3]])
    losses = jax.jit(model.losses)
    before = losses(parameters, TrainingBatch(tokens, prefix=prefix))
    for place in range(5, 9):
        changed = tokens.copy()
        changed[:, place] = (tokens[:, place] + 1) % 300
        after = losses(parameters, TrainingBatch(changed, prefix=prefix))
        np.testing.assert_array_equal(after[:, : place - 1], before[:, : place - 1])
        assert (np.abs(after - before)[:, place - 1] > 0).all()


def test_generation_reads_a_prompt_in_both_directions(rng: np.random.Generator) -> None:
    model = small_model("PRIMER_EZ")
    parameters = model.draw(rng)
    prompt, greedy = [5, 17, 3, 250], Sampling(temperature=0)
    found = list(generate(model, parameters, prompt, 3, sampling=greedy, prefix=True))
    ids, logits = list(prompt), jax.jit(model.logits)
    for _ in found:
        prefix = np.arange(len(ids))[None] < len(prompt)
        ids.append(int(jnp.argmax(logits(parameters, jnp.asarray([ids]), prefix=jnp.asarray(prefix))[0, -1])))
    assert found == ids[4:]
    with pytest.raises(UsageError, match="a prefix is refused for this program: it depends on the sequence length"):
        generate(small_model("PRIMER"), parameters, prompt, 3, prefix=True)


@pytest.mark.parametrize("prefix", [np.zeros(4, bool), np.zeros((1, 3), bool), np.zeros((1, 4), int)])
def test_a_prefix_that_does_not_fit_is_refused(prefix: Any) -> None:
    block = compile_block(build_graph(library.get("PRIMER_EZ", UNIT)), UNIT)
    with pytest.raises(ValueError, match=r"but must be booleans \[1, 4\]: one for each position"):
        block.apply(block.init(np.random.default_rng(0)), jnp.ones((1, 4, 16)), prefix=prefix)
