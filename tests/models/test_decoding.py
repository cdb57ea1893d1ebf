"""Decoding step by step gives the outputs of the whole sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.block import BlockFunctions, compile_block
from primer_search.models.language_model import LanguageModel
from primer_search.primitives.causality.causality_proof import prove_causal
from primer_search.primitives.errors import InvalidProgramError, UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.graph import Graph, smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.tests.support.decoding_edge_cases import EDGE_CASES, edge_case
from primer_search.tests.support.small_models import small_model
from primer_search.tests.support.strategies import mutants, random_dna

BATCH, LENGTH = 2, 6
LARGEST_UNIT = 16
STEPS, CHUNKS = (1,) * LENGTH, (3, 1, 2)
CONTINUED = "attention between a convolution and a running sum"
"""An edge case with every kind of cached state."""
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
PROGRAMS = pytest.mark.parametrize("name", library.names())
PIECES = pytest.mark.parametrize(
    "pieces", [pytest.param(STEPS, id="one by one", marks=pytest.mark.slow), pytest.param(CHUNKS, id="in chunks")]
)


def worst_error(graph: Graph, unit: int, rng: np.random.Generator, pieces: Sequence[int]) -> float | None:
    """Largest difference of the decoded output, relative to the largest entry; None where it is no number to compare.

    In float64; the cache has room to spare, where it may.
    """
    block = compile_block(graph, unit, LENGTH)
    by_node = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((BATCH, LENGTH, 8 * unit))
    reference = evaluate_reference(graph, by_node, x)
    nudged = evaluate_reference(graph, by_node, x * (1 + 1e-14 * rng.standard_normal(x.shape)))
    with np.errstate(invalid="ignore"):
        if not np.abs(nudged - reference).max() < 1e-11 * np.abs(reference).max(initial=1e-300):
            return None  # not finite, or it turns rounding into a difference

    def decoded_and_whole(parameters: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        longest = LENGTH if block.length else LENGTH + 2
        return decoded(block, parameters, x, pieces, longest)[0], block.apply(parameters, x)

    with jax.enable_x64(True):
        parameters = {spec.name: jnp.asarray(by_node[spec.node][spec.key]) for spec in block.specs}
        output, expected = jax.jit(decoded_and_whole)(parameters, jnp.asarray(x))
        assert output.dtype == expected.dtype == jnp.float64
        return float(jnp.abs(output - expected).max() / max(float(jnp.abs(expected).max()), 1e-300))


def decoded(block: BlockFunctions, parameters: Any, x: jax.Array, pieces: Sequence[int], longest: int) -> Any:
    """The outputs of pieces of `x`, joined, and the cache after them."""
    cache = block.init_cache(x.shape[0], longest, x.dtype)
    outputs = []
    for start, end in pairwise(accumulate(pieces, initial=0)):
        y, cache = block.decode(parameters, cache, x[:, start:end])
        outputs.append(y)
    return jnp.concatenate(outputs, axis=1), cache


def small_block(name: str = CONTINUED) -> tuple[BlockFunctions, Any]:
    """An edge case and drawn parameters, float32."""
    block = compile_block(build_graph(edge_case(name), length_dependent=True), 1, LENGTH)
    return block, jax.tree.map(jnp.asarray, block.draw(np.random.default_rng(0)))


def dtypes(tree: Any) -> list[str]:
    return [str(leaf.dtype) for leaf in jax.tree.leaves(tree)]


# --- blocks -----------------------------------------------------------------------------------------------------


@PROGRAMS
@PIECES
def test_a_library_program_decodes_to_its_output(name: str, pieces: tuple[int, ...], rng: np.random.Generator) -> None:
    error = worst_error(build_graph(library.get(name, 2)), 2, rng, pieces)
    assert error is not None and error < 1e-12


@pytest.mark.parametrize("name", EDGE_CASES)
@PIECES
def test_an_edge_case_decodes_to_its_output(name: str, pieces: tuple[int, ...], rng: np.random.Generator) -> None:
    error = worst_error(build_graph(edge_case(name), length_dependent=True), 2, rng, pieces)
    assert error is not None and error < 1e-12


def families(rng: np.random.Generator) -> dict[str, Iterator[DNA]]:
    """Endless stream of programs: mutants of the library and of the edge cases, and random ones."""
    starts = {
        "mutants of the library": [library.get(name) for name in library.names()],
        "mutants of edge cases": [edge_case(name) for name in EDGE_CASES],
    }
    endless = {
        kind: chain.from_iterable(
            mutants(rng, starts[i], 5) for i in iter(lambda s=starts: int(rng.integers(len(s))), -1)
        )
        for kind, starts in starts.items()
    }
    return {**endless, "random programs": (random_dna(rng, 3, 6, branches=(1, 1, 2)) for _ in iter(int, 1))}


def assert_decodes(programs: Iterator[DNA], wanted: int, rng: np.random.Generator) -> None:
    """So many different ones of the causal programs decode to their outputs."""
    compared: set[str] = set()
    while len(compared) < wanted:
        try:
            graph = build_graph(next(programs), length_dependent=True)
            prove_causal(graph)
            unit = smallest_unit(graph, multiple_of=2)
        except InvalidProgramError:
            continue
        if unit > LARGEST_UNIT or graph.structure_hash in compared:
            continue
        error = worst_error(graph, unit, rng, (CHUNKS, STEPS)[len(compared) % 2])
        if error is not None:
            assert error < 1e-9, f"differs by {error:.2g}: {graph.nodes}"
            compared.add(graph.structure_hash)


@pytest.mark.parametrize("kind", families(np.random.default_rng(0)))
def test_random_programs_decode_to_their_outputs(kind: str, rng: np.random.Generator) -> None:
    assert_decodes(families(rng)[kind], 8, rng)


@pytest.mark.slow
@pytest.mark.parametrize("kind", families(np.random.default_rng(0)))
def test_500_random_programs_decode_to_their_outputs(kind: str, rng: np.random.Generator) -> None:
    assert_decodes(families(rng)[kind], 170, rng)


def test_a_cache_can_be_carried_through_a_compiled_loop(rng: np.random.Generator) -> None:
    block, parameters = small_block()
    x = jnp.asarray(rng.standard_normal((BATCH, LENGTH, block.width)), jnp.float32)

    @jax.jit
    def loop(x: jax.Array) -> jax.Array:
        def step(cache: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            y, cache = block.decode(parameters, cache, x[:, None])
            return cache, y[:, 0]

        return jax.lax.scan(step, block.init_cache(BATCH, LENGTH), x.swapaxes(0, 1))[1].swapaxes(0, 1)

    expected = block.apply(parameters, x)
    np.testing.assert_allclose(loop(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_decoding_does_not_change_the_cache_it_is_given(rng: np.random.Generator) -> None:
    block, parameters = small_block()
    x = jnp.asarray(rng.standard_normal((1, LENGTH, block.width)), jnp.float32)
    _, cache = decoded(block, parameters, x[:, :3], (3,), LENGTH)
    once, _ = block.decode(parameters, cache, x[:, 3:5])
    again, after = block.decode(parameters, cache, x[:, 3:5])
    np.testing.assert_array_equal(once, again)
    assert (int(cache["position"]), int(after["position"])) == (3, 5)


def test_outputs_past_the_end_of_the_cache_are_nan() -> None:
    block, parameters = small_block()
    x = jnp.ones((1, 3, block.width))
    _, cache = decoded(block, parameters, x, (3,), 4)
    partly, cache = block.decode(parameters, cache, x[:, :2])
    wholly, cache = block.decode(parameters, cache, x[:, :1])
    assert np.isnan(partly).all() and np.isnan(wholly).all()


def test_a_program_without_history_decodes_any_number_of_positions(rng: np.random.Generator) -> None:
    block, parameters = small_block("no history")
    x = jnp.asarray(rng.standard_normal((1, LENGTH, block.width)), jnp.float32)
    output, cache = decoded(block, parameters, x, CHUNKS, longest=1)
    expected = block.apply(parameters, x)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert not cache["history"]


@pytest.mark.parametrize(("computed", "kept"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_cache_can_have_another_dtype(computed: str, kept: str, rng: np.random.Generator) -> None:
    block, parameters = small_block()
    x = jnp.asarray(rng.standard_normal((1, 3, block.width)), jnp.float32)
    cache = block.init_cache(1, LENGTH, jnp.dtype(kept))
    y, after = block.decode(parameters, cache, x.astype(computed))
    assert y.dtype == computed
    assert dtypes(after) == dtypes(cache)
    exact = block.apply(parameters, x)
    np.testing.assert_allclose(np.asarray(y, np.float32), exact, rtol=0, atol=0.1 * np.abs(exact).max())


def test_inputs_that_do_not_fit_the_cache_are_refused() -> None:
    block, parameters = small_block()
    cache = block.init_cache(2, 4)
    with pytest.raises(UsageError, match="x has 5 positions, but the cache has room for 4"):
        block.decode(parameters, cache, jnp.ones((2, 5, block.width)))
    with pytest.raises(UsageError, match="x has 3 sequences, but the cache has 2"):
        block.decode(parameters, cache, jnp.ones((3, 1, block.width)))
    with pytest.raises(UsageError, match="batch=0 and length=4"):
        block.init_cache(0, 4)
    tied, _ = small_block("the mean over keys")
    assert tied.length == LENGTH
    with pytest.raises(UsageError, match="length is 7, but the program is tied to length=6"):
        tied.init_cache(1, 7)


def test_a_program_that_sees_the_future_has_no_cache() -> None:
    dna = assemble({"main": "s = T_MAT_MUL h0 h0\ny = MAT_MUL s h0"}, {"zero": 0.0}, (8,))
    with pytest.raises(InvalidProgramError, match="it sees the future: MAT_MUL"):
        compile_block(build_graph(dna), 2).init_cache(1, LENGTH)


# --- the language model -----------------------------------------------------------------------------------------


def logits_in_pieces(model: LanguageModel, parameters: Any, tokens: jax.Array, pieces: Sequence[int]) -> jax.Array:
    decode = jax.jit(model.decode, compiler_options=QUICK)
    cache = model.init_cache(len(tokens), model.config.length)
    outputs = []
    for start, end in pairwise(accumulate(pieces, initial=0)):
        logits, cache = decode(parameters, cache, tokens[:, start:end])
        outputs.append(logits)
    assert int(cache["position"]) == sum(pieces)
    return jnp.concatenate(outputs, axis=1)


def assert_logits_equal(model: LanguageModel, pieces: Sequence[int], rng: np.random.Generator) -> None:
    parameters = model.draw(rng)
    tokens = jnp.asarray(rng.integers(model.config.vocabulary, size=(BATCH, sum(pieces))))
    expected = np.asarray(jax.jit(model.logits, compiler_options=QUICK)(parameters, tokens))
    output = logits_in_pieces(model, parameters, tokens, pieces)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@PROGRAMS
def test_decoded_logits_are_those_of_the_whole_text(name: str, rng: np.random.Generator) -> None:
    assert_logits_equal(small_model(name), (1,) * 8, rng)


@pytest.mark.parametrize("name", ["PRIMER_EZ", "PRIMER"])
def test_a_scanned_model_takes_a_prompt_at_once(name: str, rng: np.random.Generator) -> None:
    assert_logits_equal(small_model(name, stack="scan", layers=3), (6, 1, 1), rng)


def test_an_unrolled_model_takes_a_prompt_at_once(rng: np.random.Generator) -> None:
    assert_logits_equal(small_model("TRANSFORMER_PP"), (6, 1, 1), rng)


def test_a_model_in_bfloat16_keeps_its_logits_in_float32_and_its_cache_in_bfloat16(rng: np.random.Generator) -> None:
    model = small_model(edge_case(CONTINUED), layers=1, precision="bfloat16")
    cache = model.init_cache(1, 8)
    assert set(dtypes([layer["history"] for layer in cache["blocks"]])) == {"bfloat16"}
    logits, after = model.decode(model.init(rng), cache, jnp.zeros((1, 2), jnp.int32))
    assert logits.dtype == jnp.float32 and np.isfinite(logits).all()
    assert dtypes(after) == dtypes(cache)


def test_logits_past_the_end_of_the_cache_are_nan_whatever_the_blocks_cache(rng: np.random.Generator) -> None:
    model = small_model(edge_case("no history"), layers=1)
    tokens, cache = jnp.zeros((1, 3), jnp.int32), model.init_cache(1, 4)
    parameters = model.draw(rng)
    within, cache = model.decode(parameters, cache, tokens)
    past, _ = model.decode(parameters, cache, tokens)
    assert np.isfinite(within).all() and np.isnan(past).all()


def test_tokens_that_do_not_fit_the_cache_are_refused(rng: np.random.Generator) -> None:
    model = small_model("PRIMER")
    parameters, cache = model.init(rng), model.init_cache(1, 8)
    with pytest.raises(UsageError, match="tokens have 9 positions, but the cache has room for 8"):
        model.decode(parameters, cache, jnp.zeros((1, 9), jnp.int32))
    with pytest.raises(UsageError, match=r"tokens have shape \[9\]"):
        model.decode(parameters, cache, jnp.zeros(9, jnp.int32))
    with pytest.raises(UsageError, match="tied to length=8"):
        model.init_cache(1, 16)


def test_a_running_sum_does_not_drift_where_the_cache_is_more_precise_than_the_computation() -> None:
    graph = build_graph(assemble({"main": "s = CUM_SUM h0"}, {"zero": 0.0}, (8,)))
    block = compile_block(graph, 2)
    cache = block.init_cache(1, 400, jnp.float32)
    y = x = jnp.ones((1, 1, 16), jnp.bfloat16)
    decode = jax.jit(block.decode)
    for _ in range(400):
        y, cache = decode({}, cache, x)
    assert y.dtype == jnp.bfloat16 and float(y[0, 0, 0]) == 400
