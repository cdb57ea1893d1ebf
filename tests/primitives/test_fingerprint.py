"""Functional identity: twins share a fingerprint, near twins do not."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.primitives import build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.search.evolution.paper_mutations import mutate

CONSTANTS = {
    "zero": 0.0,
    "two": 2.0,
    "eighth": 0.125,
    "near_eighth": 0.126,
    "minus": -1.0,
    "thousand": 1000.0,
    "half": 0.5,
}


def of(text: str) -> str | None:
    return fingerprint(build_graph(assemble({"main": text}, CONSTANTS, (8, 16))))


NORM = """
    mean = RED_MEAN h0
    centred = DIFFERENCE h0 mean
    {product}
    variance = RED_MEAN product
    output = DIVIDE centred variance
"""
TWINS = {
    "operands of a sum exchanged": ("a = TANH h0\nb = ADD a h0", "a = TANH h0\nb = ADD h0 a"),
    "independent instructions reordered": (
        "a = TANH h0\nb = SQUARE h0\nc = DIFFERENCE a b",
        "b = SQUARE h0\na = TANH h0\nc = DIFFERENCE a b",
    ),
    "dead code": ("a = TANH h0", "dead = EXP h0\na = TANH h0"),
    "h1 is h0": ("a = ADD h0 h1", "a = ADD h0 h0"),
    "twice is a sum": ("a = C_MUL h0 constant=two", "a = ADD h0 h0"),
    "a square is a product": ("a = SQUARE h0", "a = MULTIPLY h0 h0"),
    "the variance two ways": (
        NORM.format(product="product = MULTIPLY centred centred"),
        NORM.format(product="product = MULTIPLY h0 centred"),
    ),
    "an even function of the negative": ("a = COS h0", "n = C_MUL h0 constant=minus\na = COS n"),
    "half a half": (
        "a = C_MUL h0 constant=half\nb = C_MUL a constant=half",
        "a = C_MUL h0 constant=eighth\nb = ADD a a",
    ),
    "distributed": (
        "a = TANH h0\nb = ADD a h0\nc = C_MUL b constant=half",
        "a = TANH h0\nx = C_MUL a constant=half\ny = C_MUL h0 constant=half\nc = ADD x y",
    ),
    "a maximum that never acts": (
        "a = SQUARE h0\nb = ABS_ROOT a",
        "a = SQUARE h0\nm = MAX a constant=zero\nb = ABS_ROOT m",
    ),
    "with parameters, operands exchanged": (
        "k = CONV_1X1 h0 width=8\nt = TANH k\na = MULTIPLY t h0",
        "k = CONV_1X1 h0 width=8\nt = TANH k\na = MULTIPLY h0 t",
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_one_fingerprint(name: str) -> None:
    one, other = map(of, TWINS[name])
    assert one is not None
    assert one == other


NEAR_TWINS = {
    "constants": ("a = C_MUL h0 constant=eighth", "a = C_MUL h0 constant=near_eighth"),
    "sign": ("a = TANH h0", "n = C_MUL h0 constant=minus\na = TANH n"),
    "one shift more": ("a = CONV_1X1 h0 width=8", "a = CONV_1X1 h0 width=8\nb = SHIFT a"),
    "one scale more": ("a = SHIFT h0", "a = SCALE h0\nb = SHIFT a"),
    "shared and unshared projections": (
        "a = CONV_1X1 h0 width=8\nt = TANH a\ns = SIGMOID a\no = MULTIPLY t s",
        "a = CONV_1X1 h0 width=8\nb = CONV_1X1 h0 width=8\nt = TANH a\ns = SIGMOID b\no = MULTIPLY t s",
    ),
    "operands of a difference": ("a = TANH h0\nb = DIFFERENCE a h0", "a = TANH h0\nb = DIFFERENCE h0 a"),
    "kernels": ("a = DCONV_3X1 h0", "a = DCONV_7X1 h0"),
    "widths inside": (
        "a = CONV_1X1 h0 width=8\nt = TANH a\no = CONV_1X1 t width=8",
        "a = CONV_1X1 h0 width=16\nt = TANH a\no = CONV_1X1 t width=8",
    ),
    "branches with parameters of their own": ("a = SQUARE h0", "a = SQUARE h0\nb = SCALE a"),
    "masked and not": (
        "s = T_MAT_MUL h0 h0\nm = MASK s\no = MAT_MUL m h0",
        "s = T_MAT_MUL h0 h0\nq = ABS s\nm = MASK q\no = MAT_MUL m h0",
    ),
    "only far outputs are cut": ("a = TANH h0", "a = TANH h0\nb = MIN a constant=half"),
}


@pytest.mark.parametrize("name", NEAR_TWINS)
def test_near_twins_differ(name: str) -> None:
    one, other = map(of, NEAR_TWINS[name])
    assert one is not None and other is not None
    assert one != other


def test_a_function_that_is_not_finite_has_no_fingerprint() -> None:
    overflow = "large = C_MUL h0 constant=thousand\na = EXP large"
    assert of(overflow) is None
    assert of("a = SQUARE h0\nb = RECIP a") is not None


def test_a_constant_function_has_one() -> None:
    assert of("a = DIFFERENCE h0 h0") == of("a = C_MUL h0 constant=zero") is not None


def test_all_library_programs_are_told_apart_and_keep_their_fingerprint() -> None:
    prints = [fingerprint(build_graph(library.get(name))) for name in library.names()]
    assert None not in prints
    assert len(set(prints)) == len(prints)
    assert prints == [fingerprint(build_graph(library.get(name))) for name in library.names()]


def test_the_units_size_does_not_matter_where_no_constant_depends_on_it() -> None:
    # The query scale does, so PRIMER, which has none, is one function at every size.
    assert fingerprint(build_graph(library.get("PRIMER", 8))) == fingerprint(build_graph(library.get("PRIMER", 64)))


def test_programs_of_one_structure_have_one_fingerprint_whatever_they_hold_besides() -> None:
    rng = np.random.default_rng(0)
    parent = library.TRANSFORMER
    graph = build_graph(parent)
    expected, silent = fingerprint(graph), 0
    for _ in range(150):
        try:
            child = build_graph(mutate(parent, rng)[0])
        except InvalidProgramError:
            continue
        if child.structure_hash == graph.structure_hash:
            silent += 1
            assert fingerprint(child) == expected
            check_causality(child)
    assert silent > 10
