"""Programs that see the future are refused, honest ones are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from primer_search.primitives.causality.causality_test import check_causality, probe_block
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.graphs.graph import smallest_unit
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA

ATTENTION = """
    keys    = CONV_1X1 h0 width=8
    queries = CONV_1X1 h0 width=8
    values  = CONV_1X1 h0 width=8
    scores  = T_MAT_MUL queries keys
    {weights}
    mixed   = MAT_MUL weights values
    output  = ADD mixed h0
"""


def attention(weights: str) -> DNA:
    """One head of attention whose weights come of these lines."""
    return program(ATTENTION.format(weights="\n".join(line.strip() for line in weights.splitlines())))


def program(text: str, length_dependent: bool = False) -> DNA:
    lines = "\n".join(line for line in text.splitlines() if line.strip())
    return assemble({"main": lines}, {"zero": 0.0, "small": 1e-6}, (8, 32), length_dependent)


HONEST = {
    "softmax": "p = EXP scores\nm = MASK p\nt = RED_SUM m\nweights = DIVIDE m t",
    "mask alone": "weights = MASK scores",
    "a sum over masked keys as a gate": "m = MASK scores\nt = RED_SUM m\ng = SIGMOID t\nweights = MULTIPLY m g",
    "running sums of queries, then a mask": "r = CUM_SUM scores\nweights = MASK r",
    "a mask after the softmax of squares": "s = SQUARE scores\nm = MASK s\nt = RED_SUM m\nweights = DIVIDE m t",
    "products of masked scores": "m = MASK scores\nweights = MAT_MUL m m",
}
CHEATERS = {
    "no mask": "p = EXP scores\nt = RED_SUM p\nweights = DIVIDE p t",
    "a mask before the exponential": "m = MASK scores\np = EXP m\nt = RED_SUM p\nweights = DIVIDE p t",
    "a sum over keys before the mask": "p = EXP scores\nt = RED_SUM p\nm = MASK p\nweights = DIVIDE m t",
    "no mask, no softmax": "weights = ABS scores",
    "a cosine after the mask": "m = MASK scores\nweights = COS m",
    "a sigmoid after the mask": "m = MASK scores\nweights = SIGMOID m",
    "a difference of scores and their mask": "m = MASK scores\nweights = DIFFERENCE scores m",
    "a sum of a mask and the scores": "m = MASK scores\nweights = ADD m scores",
    "a product with unmasked scores": "m = MASK scores\nweights = MAT_MUL m scores",
    "a total that is added after the mask": "t = RED_SUM scores\nm = MASK scores\nweights = ADD m t",
    "a tiny leak": "l = C_MUL scores constant=small\nm = MASK scores\nweights = ADD m l",
}


@pytest.mark.parametrize("name", library.names())
def test_a_library_program_sees_no_future(name: str) -> None:
    for unit in (8, library.native_unit(name)):
        check_causality(build_graph(library.get(name, unit)))


@pytest.mark.parametrize("what", HONEST)
def test_accepts(what: str) -> None:
    for seed in range(3):
        check_causality(build_graph(attention(HONEST[what])), seed)


@pytest.mark.parametrize("what", CHEATERS)
@pytest.mark.parametrize("check", [check_causality, probe_block])
def test_refuses(what: str, check: Callable[..., None]) -> None:
    for seed in range(3):
        with pytest.raises(InvalidProgramError, match="it sees the future") as caught:
            check(build_graph(attention(CHEATERS[what])), seed)
        assert caught.value.reason == "causality"


@pytest.mark.parametrize(
    "text",
    [
        "s = T_MAT_MUL h0 h0\nm = MASK s\nv = MAT_MUL m h0\nt = T_MAT_MUL v h0\no = MAT_MUL t h0",
        "m = RED_MEAN h0\ns = T_MAT_MUL m m\no = MAT_MUL s h0",
        "s = T_MAT_MUL h0 h0\nt = RED_SUM s\no = ADD t h0",
        "s = T_MAT_MUL h0 h0\nt = RED_SUM s\ng = SIGN t\no = MULTIPLY h0 g",
        "m = MASK h0\ns = T_MAT_MUL m h0\no = MAT_MUL s m",
    ],
)
@pytest.mark.parametrize("check", [check_causality, probe_block])
def test_refuses_cheaters_without_a_head(text: str, check: Callable[..., None]) -> None:
    with pytest.raises(InvalidProgramError, match="it sees the future"):
        check(build_graph(program(text)))


@pytest.mark.parametrize(
    "text",
    [
        "o = CUM_SUM h0",
        "o = CUM_PROD h0",
        "a = CONV_31X1 h0 width=8\no = DCONV_31X1 a",
        "m = RED_MAX h0\no = DIFFERENCE h0 m",
        "s = T_MAT_MUL h0 h0\nm = MASK s\nc = CUM_SUM m\no = MAT_MUL c h0",
    ],
)
def test_accepts_honest_programs_without_a_head(text: str) -> None:
    check_causality(build_graph(program(text)))


@pytest.mark.parametrize("reduction", ["RED_MAX", "RED_MIN", "RED_MEAN", "RED_PROD"])
def test_a_reduction_over_unmasked_keys_is_refused_with_the_flag_too(reduction: str) -> None:
    text = f"s = T_MAT_MUL h0 h0\nt = {reduction} s\no = ADD t h0"
    with pytest.raises(InvalidProgramError, match="it sees the future"):
        check_causality(build_graph(program(text, length_dependent=True)))


def test_a_reduction_over_masked_keys_that_depends_on_the_length_is_allowed_with_the_flag_only() -> None:
    text = "s = T_MAT_MUL h0 h0\nm = MASK s\nt = RED_MEAN m\no = ADD t h0"
    check_causality(build_graph(program(text, length_dependent=True)))
    with pytest.raises(InvalidProgramError, match="length_dependent"):
        build_graph(program(text))


def test_outputs_that_are_not_finite_are_refused() -> None:
    text = "a = SQUARE h0\nb = EXP a\nc = EXP b\no = EXP c"
    with pytest.raises(InvalidProgramError, match="not finite") as caught:
        check_causality(build_graph(program(text)))
    assert caught.value.reason == "finiteness"


def test_the_verdict_names_the_position_that_moved() -> None:
    with pytest.raises(InvalidProgramError, match=r"position \d changed by .* when the input from position \d on"):
        probe_block(build_graph(attention(CHEATERS["no mask"])))


def test_the_verdict_of_the_proof_names_the_op() -> None:
    with pytest.raises(InvalidProgramError, match="it sees the future: RED_SUM at "):
        check_causality(build_graph(attention(CHEATERS["no mask"])))


def test_the_probe_finds_a_unit_at_which_every_width_is_whole() -> None:
    text = {"main": "y = f h0 branches=16", "f": "y = g h0 branches=16", "g": "y = CONV_1X1 h0 width=1"}
    graph = build_graph(assemble(text, {"zero": 0.0}, (1,)))
    assert smallest_unit(graph) == 256
    assert smallest_unit(build_graph(library.TRANSFORMER)) == 4


def test_branches_of_a_primitive_are_whole_channels_at_the_probes_unit() -> None:
    head = "narrow = CONV_1X1 h0 width=1 branches=8"  # of an eighth of a unit each, in one of eight heads
    main = "heads = head h0 h0 branches=8\nout = CONV_1X1 heads width=8"
    graph = build_graph(assemble({"main": main, "head": head}, {"zero": 0.0}, (1, 8)))
    assert smallest_unit(graph) == 8
    check_causality(graph)
    assert fingerprint(graph) is not None
