"""The named programs are what the papers say: structure, sizes, and the formulas their pieces stand for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.cost import block_cost, model_parameters
from primer_search.primitives.graphs.interpreter import evaluate_reference
from primer_search.primitives.graphs.parameters import draw_parameters
from primer_search.primitives.programs import library
from primer_search.primitives.programs.pretty_printer import format_instruction
from primer_search.primitives.programs.program import DNA, Instruction
from primer_search.primitives.programs.validation import check_well_formed

D = 512  # the Transformer's width; a head is D / 8 wide, but eight of them together are D again
ATTENTION = 4 * D * D
FEED_FORWARD = 2 * D * (4 * D) + 4 * D + D
NORMS = 2 * 2 * D
DCONV = 3 * 3 * D
MESA_EXTRAS = 2 * 3 * D + D + D  # convolutions of queries and keys, ridge, scale of the output

P = 384  # Primer's width: keys and values, queries from keys within each head, output; convolutions; scale of 64 keys
PRIMER_ATTENTION = 3 * P * P + 8 * (P // 8) ** 2 + 2 * 3 * P + 8 * 64
PRIMER_FEED_FORWARD = 2 * P * 4608 + 4608
PRIMER_BLOCK = PRIMER_ATTENTION + PRIMER_FEED_FORWARD + 2 * 2 * P

BLOCK_PARAMETERS = {
    "TRANSFORMER": ATTENTION + FEED_FORWARD + NORMS,
    "TRANSFORMER_GELU": ATTENTION + FEED_FORWARD + NORMS,
    "TRANSFORMER_PP": ATTENTION + 3 * D * (3 * D) + 2 * D,
    "TRANSFORMER_SQUARED_RELU": ATTENTION + FEED_FORWARD + NORMS,
    "TRANSFORMER_MDHA": ATTENTION + FEED_FORWARD + NORMS + DCONV,
    "PRIMER_EZ": ATTENTION + FEED_FORWARD + NORMS + DCONV,
    "PRIMER": PRIMER_BLOCK,
    "PRIMER_LITERAL": PRIMER_BLOCK,
    "TRANSFORMER_MESA": ATTENTION + FEED_FORWARD + NORMS + MESA_EXTRAS,
    "TRANSFORMER_MESA_HYBRID": 2 * ATTENTION + NORMS + 2 * D + MESA_EXTRAS + 2 * D * (2 * D) + 3 * D,
}


def subprogram(dna: DNA, name: str) -> int:
    """The index of the subprogram of that name."""
    return [item.name for item in dna.subprograms].index(name)


def ops(dna: DNA, name: str) -> list[str]:
    """What a subprogram does, one op after the other, calls by the name of what they call."""
    body = dna.subprograms[subprogram(dna, name)].instructions
    return [i.op if i.callee is None else dna.subprograms[i.callee].name for i in body]


def lines(dna: DNA, name: str) -> list[str]:
    index = subprogram(dna, name)
    return [format_instruction(dna, index, k) for k in range(len(dna.subprograms[index].instructions))]


def alone(dna: DNA, name: str, keep: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """One subprogram as a function, its first `keep` instructions if given."""
    index = subprogram(dna, name)
    if keep is not None:
        dna = dna.with_instructions(index, dna.subprograms[index].instructions[:keep])
    graph = build_graph(dna.with_instructions(0, (Instruction(f"call:{index}"),)))
    rng = np.random.default_rng(0)
    return lambda x: evaluate_reference(graph, draw_parameters(graph, 2, rng, x.shape[1]), x)


@pytest.mark.parametrize("name", library.names())
def test_a_library_program_is_well_formed_and_valid(name: str) -> None:
    dna = library.get(name)
    check_well_formed(dna)
    assert (
        build_graph(dna).length_dependent == dna.length_dependent == name.startswith("PRIMER") - (name == "PRIMER_EZ")
    )


@pytest.mark.parametrize("name", library.names())
def test_parameters_are_those_counted_by_hand_and_32_to_38_million_at_the_papers_size(name: str) -> None:
    unit = library.native_unit(name)
    block = block_cost(build_graph(library.get(name)), unit, length=64).parameters
    assert block == BLOCK_PARAMETERS[name]
    assert 32e6 < model_parameters(block, unit, layers=6, vocabulary=32768) < 38e6


def test_no_two_library_programs_are_the_same() -> None:
    hashes = {build_graph(library.get(name)).structure_hash for name in library.names()}
    assert len(hashes) == len(library.names()) == 10


@pytest.mark.parametrize("name", library.names())
def test_a_library_program_is_an_attribute_with_a_description_and_a_reference(name: str) -> None:
    entry = library.LIBRARY[name]
    assert getattr(library, name) is entry.dna is library.get(name)
    assert name in library.__all__
    assert len(entry.description) > 20
    assert len(entry.reference) > 5
    assert "\n" not in entry.description + entry.reference


def test_the_baseline_is_cut_by_concept_into_s0_to_s9() -> None:
    seed = library.TRANSFORMER
    names = "main self_attention feed_forward head_projection softmax layer_norm z_score scale_shift residual relu"
    assert [item.name for item in seed.subprograms] == names.split()
    attention = "layer_norm self_attention CONV_1X1 residual"
    assert ops(seed, "main") == f"{attention} layer_norm feed_forward residual".split()
    assert seed.subprograms[0].instructions[1].branches == 8
    heads = "head_projection head_projection head_projection C_MUL T_MAT_MUL softmax MAT_MUL"
    assert ops(seed, "self_attention") == heads.split()
    assert ops(seed, "feed_forward") == ["CONV_1X1", "SHIFT", "relu", "CONV_1X1", "SHIFT"]
    assert ops(seed, "softmax") == ["EXP", "MASK", "RED_SUM", "DIVIDE"]
    assert ops(seed, "z_score") == ["RED_MEAN", "DIFFERENCE", "MULTIPLY", "RED_MEAN", "ABS_ROOT", "DIVIDE"]
    assert ops(seed, "layer_norm") == ["z_score", "scale_shift"]
    assert seed.constants == (0.0, 0.125)
    assert len(seed.dimensions) == 6


def test_primer_ez_differs_from_the_baseline_by_one_square_and_one_convolution() -> None:
    assert lines(library.PRIMER_EZ, "head_projection") == ["x2 = CONV_1X1(h0, width=8u)", "x3 = DCONV_3X1(x2)"]
    assert lines(library.PRIMER_EZ, "squared_relu") == ["x2 = MAX(h0, constant=0.0)", "x3 = SQUARE(x2)"]
    size = sum(len(item.instructions) for item in library.PRIMER_EZ.subprograms)
    assert size == sum(len(item.instructions) for item in library.TRANSFORMER.subprograms) + 2


def test_primer_is_what_the_paper_found() -> None:
    primer = library.PRIMER
    assert lines(primer, "main")[4:] == [
        "x6 = feed_forward(x5, h0)",
        "x7 = layer_norm(x6, h0)",
        "x8 = residual(x7, x5)",
    ]
    assert lines(primer, "self_attention")[1] == "x3 = CONV_1X1(x2, width=8u)"
    assert lines(primer, "head_projection")[1:] == ["x3 = DCONV_3X1(x2)", "x4 = C_MUL(x3, constant=-1.12)"]
    assert ops(primer, "softmax")[-3:] == ["DIVIDE", "TANH", "SCALE"]
    assert lines(primer, "residual") == ["x2 = ADD(h0, h1)", "x3 = ADD(h0, x2)"]
    assert lines(primer, "feed_forward")[0] == "x2 = CONV_1X1(h0, width=48u) x 2 branches"
    assert ops(primer, "feed_forward")[-1] == "CONV_1X1"
    assert lines(primer, "z_score")[2] == "x4 = MULTIPLY(h0, x3)"
    assert lines(primer, "squared_relu") == ["x2 = MAX(h0, constant=0.0)", "x3 = SQUARE(x2)"]
    assert lines(library.PRIMER_LITERAL, "squared_relu") == ["x2 = MAX(h0, constant=-0.57)", "x3 = SQUARE(x2)"]
    assert library.PRIMER_LITERAL.constants == (-1.12, -0.57)


X = np.random.default_rng(3).standard_normal((2, 3, 16))
SLOPE = math.sqrt(2 / math.pi)


@pytest.mark.parametrize(
    ("program", "name", "keep", "formula"),
    [
        ("TRANSFORMER", "relu", None, lambda x: np.maximum(x, 0)),
        ("PRIMER_EZ", "squared_relu", None, lambda x: np.maximum(x, 0) ** 2),
        ("TRANSFORMER_GELU", "gelu", None, lambda x: 0.5 * x * (1 + np.tanh(SLOPE * (x + 0.044715 * x**3)))),
        ("TRANSFORMER_PP", "swish", None, lambda x: x / (1 + np.exp(-x))),
        ("TRANSFORMER_PP", "rms_norm", 4, lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True))),
        ("TRANSFORMER", "z_score", None, lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)),
        ("PRIMER", "z_score", None, lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)),
        ("PRIMER", "residual", None, lambda x: 3 * x),
    ],
)
def test_a_piece_is_the_formula_it_stands_for(
    program: str, name: str, keep: int | None, formula: Callable[[np.ndarray], np.ndarray]
) -> None:
    np.testing.assert_allclose(alone(library.get(program), name, keep)(X), formula(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", [1, 8, 16, 64])
@pytest.mark.parametrize("name", [name for name in library.names() if library.LIBRARY[name].query_scale is not None])
def test_the_query_scale_follows_the_head_width(name: str, unit: int) -> None:
    resized = library.get(name, unit)
    attention = resized.subprograms[subprogram(resized, "self_attention")]
    scale = next(i for i in attention.instructions if i.op == "C_MUL")
    assert resized.constants[scale.constant] == 1 / math.sqrt(unit)
    assert resized.subprograms == library.get(name).subprograms
    changed = [new for new, old in zip(resized.constants, library.get(name).constants, strict=True) if new != old]
    assert changed == ([] if unit == 64 else [1 / math.sqrt(unit)])


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_the_number_of_heads_changes_branches_and_query_scale_alone(heads: int) -> None:
    dna = library.get("PRIMER_EZ", 8, heads)
    attention = [
        instruction for instruction in dna.subprograms[0].instructions if instruction.branches > 1 or heads == 1
    ]
    assert {instruction.branches for instruction in attention} == {heads}
    scale = library.LIBRARY["PRIMER_EZ"].query_scale
    assert scale is not None
    assert dna.constants[scale] == pytest.approx((64 / heads) ** -0.5)
    assert dna.subprograms[1:] == library.get("PRIMER_EZ", 8).subprograms[1:]


def test_heads_are_the_branches_of_mesa_layers_as_well() -> None:
    dna = library.get("TRANSFORMER_MESA_HYBRID", 8, 4)
    assert [one.branches for one in dna.subprograms[0].instructions if one.branches > 1] == [4, 4]


def test_a_number_of_heads_that_is_not_a_number_of_branches_is_refused() -> None:
    with pytest.raises(UsageError, match="heads is 3, but must be one of 1, 2, 4, 8, 16"):
        library.get("TRANSFORMER", 8, 3)


def test_primer_has_no_query_scale_to_resize() -> None:
    assert library.get("PRIMER", 8) is library.PRIMER
    assert library.native_unit("PRIMER") == library.native_unit("PRIMER_LITERAL") == 48


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("primer_ez", "did you mean PRIMER_EZ?"),
        ("TRANSFORMER++", "did you mean TRANSFORMER"),
        ("zzz", "known are TRANSFORMER, "),
        ("", "known are TRANSFORMER"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name: str, words: str) -> None:
    for function in (library.get, library.native_unit):
        with pytest.raises(UsageError) as caught:
            function(name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", [0, -8, 8.0, True, "8"])
def test_a_unit_is_a_positive_integer(unit: int) -> None:
    for name in library.names():
        with pytest.raises(UsageError, match="unit"):
            library.get(name, unit)
