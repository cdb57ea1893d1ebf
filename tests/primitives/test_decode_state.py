"""What decoding keeps of a program: enough, nothing that is not used, and as much as the cache size says."""

from __future__ import annotations

import math
from functools import partial

import jax
import pytest

from primer_search.models.block import compile_block
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.decode_state import CacheSize, DecodePlan, cache_size, decode_plan, state_source
from primer_search.primitives.graphs.graph import Graph
from primer_search.primitives.ops.op_table import OPS, DecodeState
from primer_search.primitives.ops.value_types import Kind
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.tests.support.decoding_edge_cases import EDGE_CASES, edge_case

UNIT, BATCH = 2, 3
PROGRAMS: dict[str, DNA] = {name: library.get(name) for name in library.names()} | {
    name: edge_case(name) for name in EDGE_CASES
}
EACH = pytest.mark.parametrize("name", PROGRAMS)


def graph_of(name: str) -> Graph:
    return build_graph(PROGRAMS[name], length_dependent=True)


def kept_of(main: str) -> tuple[Graph, DecodePlan]:
    graph = build_graph(assemble({"main": main}, {"zero": 0.0}, (8,)), length_dependent=True)
    return graph, decode_plan(graph)


def test_attention_keeps_keys_and_values_and_a_convolution_its_last_inputs() -> None:
    graph = build_graph(library.PRIMER_EZ)
    kept = decode_plan(graph)
    assert sorted(graph.nodes[index].op for index in kept.history) == ["DCONV_3X1", "DCONV_3X1"]
    assert [graph.nodes[index].op for index in kept.state] == ["DCONV_3X1"] * 3
    assert set(kept.state.values()) == {2}
    assert not kept.recomputed_scores


def test_what_sees_its_own_position_alone_keeps_nothing() -> None:
    graph, kept = kept_of("a = CONV_1X1 h0 width=8\nm = RED_MEAN a\nb = SQUARE a\ny = ADD b m")
    assert kept == DecodePlan(frozenset(), {}, frozenset(), frozenset())
    assert cache_size(graph, UNIT) == CacheSize(0, 0)


def test_a_least_squares_keeps_a_matrix_as_wide_as_its_keys() -> None:
    graph, kept = kept_of("y = LEAST_SQUARES h0 h0")
    assert {graph.nodes[index].op for index in kept.matrices} == {"LEAST_SQUARES"}
    assert not kept.state and not kept.history
    assert cache_size(graph, UNIT) == CacheSize(0, (8 * UNIT) ** 2)


def test_running_ops_keep_their_last_output_and_convolutions_all_but_one_of_their_inputs() -> None:
    graph, kept = kept_of("a = CUM_SUM h0\nb = CONV_7X1 a width=8\nr = RED_SUM b\ny = CUM_PROD r\nz = ADD y h0")
    assert {graph.nodes[index].op: rows for index, rows in kept.state.items()} == {
        "CUM_SUM": 1,
        "CONV_7X1": 6,
        "CUM_PROD": 1,
    }
    sources = {graph.nodes[index].op: graph.nodes[state_source(graph, index)].op for index in kept.state}
    assert sources == {"CUM_SUM": "CUM_SUM", "CONV_7X1": "CUM_SUM", "CUM_PROD": "CUM_PROD"}
    assert cache_size(graph, UNIT) == CacheSize(0, 16 + 6 * 16 + 1)


def test_scores_that_need_earlier_rows_are_computed_whole_from_what_they_are_made_of() -> None:
    graph, kept = kept_of("k = ABS h0\ns = T_MAT_MUL h0 k\nc = CUM_SUM s\nm = MASK c\ny = MAT_MUL m h0")
    assert sorted(graph.nodes[index].op for index in kept.recomputed_scores) == ["CUM_SUM", "T_MAT_MUL"]
    assert sorted(graph.nodes[index].op for index in kept.history) == ["ABS", "INPUT"]
    assert not kept.state


@EACH
def test_all_that_is_kept_is_used(name: str) -> None:
    graph = graph_of(name)
    kept = decode_plan(graph)
    seconds = {
        node.inputs[1] for node in graph.nodes if node.op in OPS and OPS[node.op].decode_state is DecodeState.SECOND
    }
    operands = {i for index in kept.recomputed_scores for i in graph.nodes[index].inputs}
    assert kept.history | kept.recomputed_scores == seconds | operands | kept.recomputed_scores
    assert kept.recomputed_scores == {
        i for i in kept.history | kept.recomputed_scores if graph.nodes[i].value.kind is Kind.SCORES
    }
    assert not kept.recomputed_scores & kept.state.keys()


@EACH
@pytest.mark.parametrize("length", [5, 11])
def test_a_cache_holds_as_many_numbers_as_its_size_says(name: str, length: int) -> None:
    graph = graph_of(name)
    cache = jax.eval_shape(partial(compile_block(graph, UNIT, length).init_cache, BATCH, length))
    size = cache_size(graph, UNIT, length)
    held = {part: sum(math.prod(array.shape) for array in cache[part].values()) for part in ("history", "state")}
    assert held == {"history": BATCH * length * size.per_position, "state": BATCH * size.fixed}
