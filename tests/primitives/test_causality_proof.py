"""The static proof of causality: right on its own, and never more trusting than the dynamic test."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from primer_search.primitives import DNA, InvalidProgramError, build_graph
from primer_search.primitives.causality.causality_proof import Hidden, Reach, prove_causal, time_dependence
from primer_search.primitives.causality.causality_test import probe_block
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.graphs.interpreter import evaluate
from primer_search.primitives.graphs.parameters import parameter_count
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.strategies import mutants, random_dna

SMALL = 300_000
"""Parameters of the programs compared here: random programs can be wider than a test has memory for."""


def program(text: str, length_dependent: bool = False) -> DNA:
    """A one-subprogram DNA."""
    return assemble({"main": text}, {"zero": 0.0, "large": 1e15}, (8,), length_dependent)


@pytest.mark.parametrize("name", library.names())
def test_every_library_program_is_proved_causal(name: str) -> None:
    prove_causal(build_graph(library.get(name)))


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("s = T_MAT_MUL h0 h0\no = MAT_MUL s h0", "MAT_MUL"),
        ("s = T_MAT_MUL h0 h0\nm = MASK s\ne = EXP m\no = MAT_MUL e h0", "constants other than zero"),
        ("s = T_MAT_MUL h0 h0\ne = EXP s\nt = RED_SUM e\nm = MASK e\nw = DIVIDE m t\no = MAT_MUL w h0", "RED_SUM"),
    ],
    ids=["no mask", "mask before exp", "normaliser unmasked"],
)
def test_a_leak_is_refused_and_its_cause_named(text: str, culprit: str) -> None:
    with pytest.raises(InvalidProgramError, match=culprit) as caught:
        prove_causal(build_graph(program(text)))
    assert caught.value.reason == "causality"


def test_a_leak_that_sampling_does_not_find_is_refused_all_the_same() -> None:
    text = "s = T_MAT_MUL h0 h0\nt = RED_MAX s\nu = MAX t constant=large\no = ADD u h0"
    graph = build_graph(program(text, length_dependent=True))
    probe_block(graph)
    with pytest.raises(InvalidProgramError, match="RED_MAX"):
        prove_causal(graph)


def test_the_number_of_masked_keys_is_a_dependence_on_the_length() -> None:
    text = "s = T_MAT_MUL h0 h0\nm = MASK s\nt = RED_MEAN m\no = ADD t h0"
    graph = build_graph(program(text, length_dependent=True))
    facts = {node.op: fact for node, fact in zip(graph.nodes, time_dependence(graph), strict=True)}
    assert facts["MASK"].hidden is Hidden.ZERO
    assert facts["RED_MEAN"].reach is Reach.LENGTH_DEPENDENT
    prove_causal(graph)


def test_an_overflow_at_a_masked_key_ends_as_nan_and_tells_nothing() -> None:
    text = """
        s = T_MAT_MUL h0 h0
        e = EXP s
        m = MASK e
        p = MULTIPLY m e
        t = RED_SUM p
        g = SIGN t
        r = ABS_ROOT g
        o = ADD h0 r
    """
    graph = build_graph(program(text))
    prove_causal(graph)  # zero times anything finite is zero
    past = np.random.default_rng(0).standard_normal((1, 3, 128))
    x = np.concatenate([past, past[:, :1]], axis=1).astype(
        np.float32
    )  # the last position resembles the first: exp overflows
    with np.errstate(all="ignore"):
        output = evaluate(graph, [{}] * len(graph.nodes), x, np)
    assert np.all(np.isnan(output[0, 0]))


def test_exp_makes_constants_of_hidden_zeros_and_mask_zeros_of_anything() -> None:
    graph = build_graph(program("s = T_MAT_MUL h0 h0\nm = MASK s\ne = EXP m\nn = MASK e\no = MAT_MUL n h0"))
    facts = {node.op: fact.hidden for node, fact in zip(graph.nodes, time_dependence(graph), strict=True)}
    assert facts["T_MAT_MUL"] is Hidden.PAIRWISE
    assert facts["EXP"] is Hidden.CONSTANT


def test_whatever_the_proof_accepts_the_dynamic_test_accepts() -> None:
    rng = np.random.default_rng(11)
    verdicts: Counter[tuple[bool, bool]] = Counter()
    programs = [dna for name in library.names() for dna in mutants(rng, library.get(name), 15)]
    for dna in [*programs, *(random_dna(rng) for _ in range(150))]:
        proved, held = _verdicts(dna)
        if proved is not None:
            verdicts[proved, held] += 1
            assert held or not proved, dna_to_json(dna)
    assert verdicts[True, True] > 80
    assert verdicts[False, False] > 2


def _verdicts(dna: DNA) -> tuple[bool | None, bool]:
    """Whether the proof and the dynamic test accept a program; None where it is invalid or too large to compare."""
    try:
        graph = build_graph(dna, length_dependent=True)
    except InvalidProgramError:
        return None, False
    if parameter_count(graph, smallest_unit(graph), 8) > SMALL:
        return None, False
    try:
        prove_causal(graph)
        proved = True
    except InvalidProgramError:
        proved = False
    try:
        probe_block(graph)
    except InvalidProgramError as error:
        return proved, error.reason != "causality"
    return proved, True
