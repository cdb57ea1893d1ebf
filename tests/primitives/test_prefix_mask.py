"""Prefixes: their positions see each other, and nothing that follows; programs that cannot do that are refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.causality.packed_texts import compute_texts_apart, number_texts
from primer_search.primitives.causality.prefix_mask import check_prefix_capable, prefix_fault, takes_prefix
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.graph import Graph, smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters, parameter_count
from primer_search.primitives.ops.op_table import OPS, TimeDependence
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import EDGE_CASES, edge_case
from primer_search.tests.support.exported_programs import small_program
from primer_search.tests.support.packed_texts import SEGMENT_IDS, texts_of
from primer_search.tests.support.prefixes import PREFIX, reference
from primer_search.tests.support.strategies import mutants, random_dna

TEXTS = number_texts(np, SEGMENT_IDS)
LENGTH = SEGMENT_IDS.shape[1]
LARGEST = 200_000
"""Parameters of the programs compared here."""


def capable(dna: DNA) -> Graph | None:
    """The graph of a causal program that can read a prefix, or None."""
    try:
        graph = build_graph(dna)
        if parameter_count(graph, smallest_unit(graph)) > LARGEST:
            return None
        check_causality(graph)
    except InvalidProgramError:
        return None
    return None if prefix_fault(graph) else graph


def leak(graph: Graph, rng: np.random.Generator) -> float | None:
    """Check that outputs equal those of each text alone, and return the largest change by a later horizon.

    None if rounding alone changes the outputs.
    """
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    hook = compute_texts_apart(graph, TEXTS, PREFIX)
    run = partial(evaluate_reference, graph, parameters, compute_hook=hook)
    x = rng.standard_normal((*SEGMENT_IDS.shape, 8 * unit))
    y = run(x)
    size = np.abs(y).max()
    with np.errstate(all="ignore"):
        if not np.abs(run(x * (1 + 1e-14 * rng.standard_normal(x.shape))) - y).max() < 1e-10 * size:
            return None
    np.testing.assert_allclose(y / size, reference(graph, parameters, x) / size, atol=1e-8)
    worst = 0.0
    for row, text in texts_of(SEGMENT_IDS):
        for first in range(text.start, text.stop):
            changed = x.copy()
            changed[row, first] = rng.standard_normal(x.shape[2])
            unaware = np.ones(SEGMENT_IDS.shape, bool)
            unaware[row, text.start if PREFIX[row, first] else first : text.stop] = False
            if PREFIX[row, first]:
                unaware[row, text] = False
            moved = np.abs(run(changed) - y)[unaware]
            worst = max(worst, float(moved.max(initial=0) / size))
    return worst


@pytest.mark.parametrize("name", [*library.names(), *EDGE_CASES])
def test_no_position_sees_a_later_horizon_or_another_text(name: str, rng: np.random.Generator) -> None:
    dna = edge_case(name) if name in EDGE_CASES else library.get(name)
    graph = build_graph(dna, length_dependent=True)
    assert bool(prefix_fault(graph)) == graph.length_dependent
    if not graph.length_dependent:
        worst = leak(graph, rng)
        assert worst is not None and worst < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_no_random_program_that_is_accepted_leaks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, compared, masked = library.names(), 0, 0
    while compared < 15:
        start = library.get(names[int(rng.integers(len(names)))])
        dna = mutants(rng, start, int(rng.integers(1, 20)))[-1] if rng.random() < 0.7 else random_dna(rng)
        graph = capable(dna)
        worst = None if graph is None else leak(graph, rng)
        if graph is not None and worst is not None:
            assert worst < 1e-9, graph.structure_hash
            compared += 1
            masked += any(node.op == "MASK" for node in graph.nodes)
    assert masked > 5


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ"])
def test_the_positions_of_a_prefix_see_each_other(name: str, rng: np.random.Generator) -> None:
    graph = build_graph(library.get(name))
    unit = smallest_unit(graph)
    parameters = draw_parameters(graph, unit, rng, LENGTH)
    x = rng.standard_normal((1, LENGTH, 8 * unit))
    prefix = np.arange(LENGTH)[None] < 5
    run = partial(evaluate_reference, graph, parameters)
    hook = compute_texts_apart(graph, None, prefix)
    changed = x.copy()
    changed[0, 4] = rng.standard_normal(x.shape[2])
    assert (np.abs(run(changed, hook) - run(x, hook)).max(axis=-1)[0] > 1e-6).all()
    np.testing.assert_array_equal(run(changed)[0, :4], run(x)[0, :4])
    np.testing.assert_array_equal(run(x, compute_texts_apart(graph, None, np.zeros_like(prefix))), run(x))


def test_without_mask_a_prefix_is_read_causally(rng: np.random.Generator) -> None:
    graph = build_graph(edge_case("no history"))
    parameters = draw_parameters(graph, 2, rng, LENGTH)
    x = rng.standard_normal((1, LENGTH, 16))
    hook = compute_texts_apart(graph, None, np.ones((1, LENGTH), bool))
    assert not prefix_fault(graph)
    np.testing.assert_array_equal(
        evaluate_reference(graph, parameters, x, hook), evaluate_reference(graph, parameters, x)
    )


def test_mask_is_the_only_op_that_a_prefix_changes() -> None:
    assert [name for name in OPS if takes_prefix(name)] == ["MASK"]
    assert OPS["MASK"].time_dependence is TimeDependence.MASKS


def test_programs_that_see_the_future_or_depend_on_the_length_are_refused_with_the_reason() -> None:
    future = build_graph(small_program("s = T_MAT_MUL h0 h0\no = MAT_MUL s h0"))
    with pytest.raises(UsageError, match=r"a prefix is refused .*: it sees the future, because of MAT_MUL at mat_mul"):
        check_prefix_capable(future)
    with pytest.raises(UsageError, match=r"it depends on the sequence length, because of SCALE at .*; train it with"):
        check_prefix_capable(build_graph(library.get("PRIMER"), length_dependent=True))
