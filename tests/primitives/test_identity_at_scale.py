"""Identity on many mutants, and on pairs that a reader would call the same, or nearly the same.

The measurement on 100,000 mutants is benchmarks/identity.py; this is its small sister.
"""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

import primer_search
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json

CONSTANTS = {
    "zero": 0.0,
    "third": 1 / 3,
    "near_third": 1 / 3 + 1e-3,
    "three": 3.0,
    "near_three": 3.001,
    "minus": -1.0,
    "minus_third": -1 / 3,
    "half": 0.5,
    "two": 2.0,
}

NORM = """
    mean = RED_MEAN h0
    centred = DIFFERENCE h0 mean
    {product}
    variance = RED_MEAN product
    deviation = ABS_ROOT variance
    score = DIVIDE centred deviation
    output = SCALE score
"""
ATTENTION = """
    keys = CONV_1X1 h0 width=8
    queries = CONV_1X1 h0 width=8
    {scores}
    {weights}
    total = RED_SUM weights
    shares = DIVIDE weights total
    output = MAT_MUL shares h0
"""
SCORES = "raw = T_MAT_MUL queries keys\nscores = C_MUL raw constant=third"
WEIGHTS = "positive = EXP scores\nweights = MASK positive"

TWINS = {
    "mean(x(x-mu)) is the variance": (
        NORM.format(product="product = MULTIPLY centred centred"),
        NORM.format(product="product = MULTIPLY h0 centred"),
    ),
    "the scale of scores, before or after the product": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(scores="small = C_MUL queries constant=third\nscores = T_MAT_MUL small keys", weights=WEIGHTS),
    ),
    "the scale of scores, on the keys": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(scores="small = C_MUL keys constant=third\nscores = T_MAT_MUL queries small", weights=WEIGHTS),
    ),
    "masked twice": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(scores=SCORES, weights="positive = EXP scores\nonce = MASK positive\nweights = MASK once"),
    ),
    "weights doubled before they are normalised": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(
            scores=SCORES, weights="positive = EXP scores\nmore = C_MUL positive constant=two\nweights = MASK more"
        ),
    ),
    "instructions in another order": (
        "a = CONV_1X1 h0 width=16\nb = TANH a\nc = DCONV_3X1 h0\nd = CONV_1X1 b width=8\ne = MULTIPLY c d",
        "c = DCONV_3X1 h0\na = CONV_1X1 h0 width=16\nb = TANH a\nd = CONV_1X1 b width=8\ne = MULTIPLY c d",
    ),
    "dead code with parameters": (
        "a = CONV_1X1 h0 width=8\nb = SQUARE a",
        "x = CONV_3X1 h0 width=16\na = CONV_1X1 h0 width=8\ny = SCALE x\nb = SQUARE a",
    ),
    "a factor through a dense layer": (
        "a = C_MUL h0 constant=third\nb = CONV_1X1 a width=8",
        "a = CONV_1X1 h0 width=8\nb = C_MUL a constant=third",
    ),
    "a factor through a maximum with zero": (
        "a = CONV_1X1 h0 width=8\nb = MAX a constant=zero\nc = C_MUL b constant=third",
        "a = CONV_1X1 h0 width=8\nb = C_MUL a constant=third\nc = MAX b constant=zero",
    ),
    "a minimum is a maximum of the negative": (
        "a = MIN h0 constant=zero\nb = TANH a",
        "n = C_MUL h0 constant=minus\nm = MAX n constant=zero\na = C_MUL m constant=minus\nb = TANH a",
    ),
    "the sigmoid by tanh": (
        "a = SIGMOID h0\nb = ADD a a",
        "x = C_MUL h0 constant=half\nt = TANH x\nz = DIFFERENCE h0 h0\no = COS z\nb = ADD t o",
    ),
    "a sum over positions, of a sum or of its parts": (
        "t = TANH h0\na = ADD t h0\nb = CUM_SUM a",
        "t = TANH h0\nx = CUM_SUM t\ny = CUM_SUM h0\nb = ADD x y",
    ),
}

NEAR_TWINS = {
    "a factor, off by a thousandth": ("a = C_MUL h0 constant=third", "a = C_MUL h0 constant=near_third"),
    "a clip at three, off by a thousandth": ("a = MIN h0 constant=three", "a = MIN h0 constant=near_three"),
    "a clip that few inputs meet": ("a = TANH h0", "m = MIN h0 constant=three\na = TANH m"),
    "operands of a difference exchanged": (
        "a = CONV_1X1 h0 width=8\nb = DIFFERENCE a h0",
        "a = CONV_1X1 h0 width=8\nb = DIFFERENCE h0 a",
    ),
    "operands of a quotient exchanged": (
        "a = SIGMOID h0\nb = DIVIDE h0 a",
        "a = SIGMOID h0\nb = DIVIDE a h0",
    ),
    "three taps or seven": ("a = CONV_3X1 h0 width=8", "a = CONV_7X1 h0 width=8"),
    "a convolution in each channel, or across them": ("a = DCONV_3X1 h0", "a = CONV_3X1 h0 width=8"),
    "without the mask": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(scores=SCORES, weights="weights = EXP scores"),
    ),
    "the mask before the exponential": (
        ATTENTION.format(scores=SCORES, weights=WEIGHTS),
        ATTENTION.format(scores=SCORES, weights="seen = MASK scores\nweights = EXP seen"),
    ),
    "queries and keys exchanged": (
        ATTENTION.format(scores="scores = T_MAT_MUL keys h0", weights=WEIGHTS),
        ATTENTION.format(scores="scores = T_MAT_MUL h0 keys", weights=WEIGHTS),
    ),
    "the norm without its mean": (
        NORM.format(product="product = MULTIPLY centred centred"),
        NORM.format(product="product = MULTIPLY h0 h0"),
    ),
    "one scale more": ("a = CONV_1X1 h0 width=8\nb = SQUARE a", "a = CONV_1X1 h0 width=8\ns = SCALE a\nb = SQUARE s"),
    "the sign of a factor": ("a = C_MUL h0 constant=third\nb = SIN a", "a = C_MUL h0 constant=minus_third\nb = SIN a"),
    "branches with a scale each": ("a = SCALE h0", "a = SCALE h0\nb = SCALE a"),
}


def program(text: str) -> DNA:
    return assemble({"main": text}, CONSTANTS, (8, 16))


def fingerprint_of(text: str) -> str | None:
    return fingerprint(build_graph(program(text)))


@pytest.fixture(scope="module")
def identity() -> ModuleType:
    """The benchmark, as a module."""
    file = Path(primer_search.__file__).parent / "benchmarks" / "identity.py"
    spec = importlib.util.spec_from_file_location("identity_benchmark", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_one_function(name: str) -> None:
    one, other = map(fingerprint_of, TWINS[name])
    assert one is not None
    assert one == other


@pytest.mark.parametrize("name", NEAR_TWINS)
def test_near_twins_are_two(name: str) -> None:
    one, other = map(fingerprint_of, NEAR_TWINS[name])
    assert one is not None and other is not None
    assert one != other


def test_a_constant_of_the_transformer_off_by_a_thousandth_is_another_function() -> None:
    dna = library.TRANSFORMER
    document = json.loads(dna_to_json(dna))
    for index, constant in enumerate(dna.constants):
        document["constants"] = [c + 1e-3 * (i == index) for i, c in enumerate(dna.constants)]
        other = build_graph(dna_from_json(json.dumps(document)))
        check_causality(other)
        assert fingerprint(other) != fingerprint(build_graph(dna)), constant


def test_mutants_of_one_fingerprint_compute_the_same_on_fresh_inputs(identity: ModuleType) -> None:
    mutants, fates = identity.grow_shard(0, 250)
    assert len({mutant.structure for mutant in mutants}) == len(mutants) == fates["new structure"]
    groups = defaultdict(list)
    for mutant in mutants:
        groups[mutant.function].append(mutant.dna)
    groups.pop(None, None)
    merges = [merge for group in groups.values() if len(group) > 1 for merge in identity.compare_group(group)]
    assert merges
    assert [merge for merge in merges if merge.difference > identity.FALSE] == []


@pytest.mark.parametrize("name", TWINS)
def test_the_comparison_finds_twins_equal(identity: ModuleType, name: str) -> None:
    (merge,) = identity.compare_group([dna_to_json(program(text)) for text in TWINS[name]])
    assert merge.difference < 1e-9


@pytest.mark.parametrize("name", NEAR_TWINS)
def test_the_comparison_would_see_a_false_merge(identity: ModuleType, name: str) -> None:
    (merge,) = identity.compare_group([dna_to_json(program(text)) for text in NEAR_TWINS[name]])
    assert merge.difference > identity.FALSE
