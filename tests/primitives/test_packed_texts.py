"""Packed texts: each has the outputs that it has alone, or the program is refused."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.causality.packed_texts import (
    check_packable,
    compute_texts_apart,
    number_texts,
    packing_fault,
)
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.graph import Graph, smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters, parameter_count
from primer_search.primitives.ops.op_table import OPS, DecodeState, PackedTexts, TimeDependence
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import EDGE_CASES, edge_case
from primer_search.tests.support.exported_programs import small_program
from primer_search.tests.support.packed_texts import LENGTH, SEGMENT_IDS, alone
from primer_search.tests.support.strategies import mutants, random_dna

TEXTS = number_texts(np, SEGMENT_IDS)
KEPT = (DecodeState.INPUTS, DecodeState.OUTPUT, DecodeState.MATRIX)
LARGEST = 200_000
"""Parameters of the programs compared here."""


def difference(graph: Graph, rng: np.random.Generator) -> float | None:
    """The largest difference between packed texts and texts alone, by its size; None if rounding alone makes one."""
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((*SEGMENT_IDS.shape, 8 * unit))
    hook = compute_texts_apart(graph, TEXTS)
    packed = evaluate_reference(graph, parameters, x, hook)
    nudged = evaluate_reference(graph, parameters, x * (1 + 1e-14 * rng.standard_normal(x.shape)), hook)
    with np.errstate(all="ignore"):
        if not np.abs(nudged - packed).max() < 1e-10 * np.abs(packed).max():
            return None
    apart = alone(lambda x: evaluate_reference(graph, parameters, x), x)
    return float(np.abs(packed - apart).max() / max(np.abs(apart).max(), 1e-300))


def packable(dna: DNA) -> Graph | None:
    """The graph of a causal program that can keep texts apart, or None."""
    try:
        graph = build_graph(dna)
        if parameter_count(graph, smallest_unit(graph)) > LARGEST:
            return None
        check_causality(graph)
    except InvalidProgramError:
        return None
    return None if packing_fault(graph) else graph


@pytest.mark.parametrize("name", library.names())
def test_a_packed_text_has_the_outputs_that_it_has_alone(name: str, rng: np.random.Generator) -> None:
    graph = build_graph(library.get(name), length_dependent=True)
    if graph.length_dependent:
        with pytest.raises(
            UsageError, match=r"it depends on the sequence length, because of \w+ at .*; give it one text a sequence"
        ):
            check_packable(graph)
    else:
        error = difference(graph, rng)
        assert error is not None and error < 1e-9


@pytest.mark.parametrize("name", EDGE_CASES)
def test_scores_and_branches_used_in_unusual_ways_are_packed_or_refused(name: str, rng: np.random.Generator) -> None:
    graph = build_graph(edge_case(name), length_dependent=True)
    assert bool(packing_fault(graph)) == graph.length_dependent
    if not graph.length_dependent:
        error = difference(graph, rng)
        assert error is not None and error < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_every_causal_mutant_and_random_program_is_packed_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, compared, ops = library.names(), 0, set[str]()
    while compared < 40:
        start = library.get(names[int(rng.integers(len(names)))])
        dna = mutants(rng, start, int(rng.integers(1, 20)))[-1] if rng.random() < 0.7 else random_dna(rng)
        graph = packable(dna)
        error = None if graph is None else difference(graph, rng)
        if graph is not None and error is not None:
            assert error < 1e-7, f"{error:.2g}: {graph.structure_hash}"
            ops |= {node.op for node in graph.nodes}
            compared += 1
    assert {"MASK", "CUM_SUM"} & ops and any("CONV_3X1" in op for op in ops)


def test_texts_are_not_apart_without_ids(rng: np.random.Generator) -> None:
    graph = build_graph(library.get("PRIMER_EZ"))
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((*SEGMENT_IDS.shape, 8 * unit))
    together = evaluate_reference(graph, parameters, x)
    apart = alone(lambda x: evaluate_reference(graph, parameters, x), x)
    assert np.abs(together - apart).max() > 0.01


def test_ops_that_read_earlier_positions_are_those_with_a_rule() -> None:
    ruled = {name for name, op in OPS.items() if op.packed_texts is not PackedTexts.UNCHANGED}
    assert ruled == {"MASK", *(name for name, op in OPS.items() if op.time_dependence is TimeDependence.PAST)}
    keeps = {name for name, op in OPS.items() if op.decode_state in KEPT}
    assert ruled == keeps | {"MASK"}
    assert not any(op.packed_texts is PackedTexts.REFUSED for op in OPS.values() if op.origin in ("paper", "extended"))


def test_a_program_that_sees_the_future_is_refused() -> None:
    graph = build_graph(small_program("s = T_MAT_MUL h0 h0\no = MAT_MUL s h0"))
    with pytest.raises(
        UsageError, match="it sees the future, because of MAT_MUL at mat_mul; give it one text a sequence"
    ):
        check_packable(graph)
