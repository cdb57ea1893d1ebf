"""The changes between two programs: none applied is the seed, all applied the candidate, and what lies between."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer_search.primitives.differences.essential_changes import essential_changes
from primer_search.primitives.differences.null_rewrite import null_rewrite
from primer_search.primitives.differences.program_diff import ProgramDiff, diff_programs
from primer_search.primitives.errors import InvalidProgramError, MalformedProgramError, UsageError
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.graphs.fingerprint import function_identity
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.tests.support.strategies import dnas

CONSTANTS = {"zero": 0.0, "half": 0.5}


def program(main: str, constants: dict[str, float] | None = None, **others: str) -> DNA:
    return assemble({"main": main, **others}, constants or CONSTANTS, (8, 16))


def structure(dna: DNA) -> str:
    """The hash of the canonical form, or why there is none: the same for equal programs, valid or not."""
    try:
        return build_graph(dna, length_dependent=True).structure_hash
    except InvalidProgramError as error:
        return error.reason


def function_of(dna: DNA) -> str:
    return function_identity(build_graph(dna))


def sentences(between: ProgramDiff) -> list[str]:
    return [item.description for item in between.changes]


def descendant(start: DNA, seed: int, mutations: int) -> DNA:
    rng = np.random.default_rng(seed)
    for _ in range(mutations):
        start = mutate(start, rng)[0]
    return start


def assert_ends(seed: DNA, candidate: DNA) -> ProgramDiff:
    between = diff_programs(seed, candidate)
    assert structure(between.apply(())) == structure(seed)
    assert structure(between.apply(between.numbers)) == structure(candidate)
    return between


# --- what always holds ------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(library.names()), st.integers(0, 2**32 - 1), st.integers(0, 25), st.randoms())
def test_no_change_is_the_baseline_and_all_are_the_candidate(name: str, seed: int, mutations: int, draw) -> None:
    start = library.get(name)
    between = assert_ends(start, descendant(start, seed, mutations))
    for _ in range(5):
        subset = [number for number in sorted(between.numbers) if draw.random() < 0.5]
        with suppress(InvalidProgramError, MalformedProgramError):
            build_graph(between.apply(subset), length_dependent=True)


@settings(max_examples=40, deadline=None)
@given(dnas(), dnas())
def test_any_two_programs_whose_banks_fit_together_have_their_changes(one: DNA, other: DNA) -> None:
    try:
        assert_ends(one, other)
    except UsageError as error:
        assert "a bank holds at most 16" in str(error) or "entries do not correspond" in str(error)


@pytest.mark.parametrize(("one", "other"), list(combinations(library.names(), 2)))
def test_any_two_library_programs_have_their_changes(one: str, other: str) -> None:
    assert_ends(library.get(one), library.get(other))
    assert_ends(library.get(other), library.get(one))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_one_mutation_at_a_time_needs_no_more_changes_than_mutations_and_their_readers(seed: int, count: int) -> None:
    candidate = descendant(library.TRANSFORMER, seed, count)
    # Delete-and-insert is two, a swap exchanges the fields of two instructions, and one of these can be read anywhere.
    assert len(diff_programs(library.TRANSFORMER, candidate).changes) <= 8 * count


def test_a_program_has_no_changes_against_itself() -> None:
    for name in library.names():
        assert diff_programs(library.get(name), library.get(name)).changes == ()


# --- one change is one change -----------------------------------------------------------------------------------


def test_an_instruction_put_between_two_others_is_one_change() -> None:
    seed = program("a = CONV_1X1 h0 width=8\nb = TANH a\nc = ADD b a")
    candidate = program("a = CONV_1X1 h0 width=8\ns = SQUARE a\nb = TANH s\nc = ADD b s")
    assert sentences(diff_programs(seed, candidate)) == ["Insert in main: x3 = SQUARE(x2)"]
    assert sentences(diff_programs(candidate, seed)) == ["Delete in main: x3 = SQUARE(x2)"]


def test_a_field_is_a_change_of_its_own() -> None:
    seed = program("a = CONV_1X1 h0 width=8\nb = CONV_1X1 a width=8\nc = MAX b constant=zero")
    candidate = program("a = CONV_1X1 h0 width=16\nb = CONV_1X1 h0 width=8\nc = MAX b constant=half")
    between = assert_ends(seed, candidate)
    assert sentences(between) == [
        "Change dimension from 8u to 16u in main: x2 = CONV_1X1(h0, width=16u)",
        "Change in1 from x2 to h0 in main: x3 = CONV_1X1(h0, width=8u)",
        "Change constant from 0 to 0.5 in main: x4 = MAX(x3, constant=0.5)",
    ]
    only_the_last = program("a = CONV_1X1 h0 width=8\nb = CONV_1X1 a width=8\nc = MAX b constant=half")
    assert structure(between.apply({3})) == structure(only_the_last)


def test_an_entry_of_a_bank_is_one_change_for_all_that_read_it() -> None:
    text = "a = MAX h0 constant=zero\nb = MIN a constant=zero\nc = ADD b a"
    between = assert_ends(program(text), program(text, {"zero": -1.0, "half": 0.5}))
    assert sentences(between) == ["Bank: constant 0 from 0 to -1"]


def test_the_sign_of_a_zero_in_a_bank_is_a_change() -> None:
    text = "a = MAX h0 constant=zero"
    assert len(assert_ends(program(text), program(text, {"zero": -0.0, "half": 0.5})).changes) == 1


def test_programs_whose_banks_differ_in_order_only_do_not_differ() -> None:
    text = "a = MAX h0 constant=zero\nb = C_MUL a constant=half"
    between = diff_programs(program(text), program(text, {"half": 0.5, "zero": 0.0}))
    assert between.changes == ()


def test_what_an_op_does_not_read_is_no_change() -> None:
    seed = program("a = TANH h0")
    body = seed.subprograms[0].instructions
    candidate = seed.with_instructions(0, (replace(body[0], in2=1, constant=1, dimension=1),))
    assert diff_programs(seed, candidate).changes == ()


def test_a_reader_of_what_is_not_there_reads_past_it() -> None:
    seed = program("a = TANH h0\nb = SQUARE a")
    candidate = program("a = TANH h0\ns = ABS a\nt = SIN s\nb = SQUARE t\nc = COS b")
    between = assert_ends(seed, candidate)
    assert [item.kind for item in between.changes] == ["insert"] * 3
    without_abs = between.apply(between.numbers - {1})
    assert structure(without_abs) == structure(program("a = TANH h0\nt = SIN a\nb = SQUARE t\nc = COS b"))
    without_cos = between.apply(between.numbers - {3})
    assert structure(without_cos) == structure(program("a = TANH h0\ns = ABS a\nt = SIN s\nb = SQUARE t"))


def test_a_subset_that_leaves_a_subprogram_empty_is_refused() -> None:
    seed, candidate = program("a = TANH h0 branches=2"), program("a = ADD h0 h1\nb = MASK h1")
    between = assert_ends(seed, candidate)
    deletions = {item.number for item in between.changes if item.kind == "delete"}
    if deletions:
        with pytest.raises(MalformedProgramError):
            between.apply(deletions)


def test_primer_differs_from_the_transformer_as_the_paper_says() -> None:
    between = diff_programs(library.TRANSFORMER, library.PRIMER)
    found = sentences(between)
    for expected in (
        "Insert in main: x7 = layer_norm(x6, h0)",
        "Delete in self_attention: x5 = C_MUL(x3, constant=0.125)",
        "Change op from relu to squared_relu in feed_forward: x5 = squared_relu(x3, h0)",
        "Insert in head_projection: x3 = DCONV_3X1(x2)",
        "Insert in softmax: x6 = TANH(x5)",
        "Change in1 from x3 to h0 in z_score: x4 = MULTIPLY(h0, x3)",
        "Insert in residual: x3 = ADD(h0, x2)",
    ):
        assert expected in found
    assert len(found) == 17


# --- silent changes ---------------------------------------------------------------------------------------------


def test_silent_changes_are_dropped() -> None:
    between = diff_programs(library.TRANSFORMER, library.PRIMER)
    dropped = {sentences(between)[number - 1] for number in between.numbers - essential_changes(between)}
    assert dropped == {
        "Insert in self_attention: x6 = MAX(x5, constant=-0.57)",
        "Insert in feed_forward: x4 = MAX(x3, constant=-0.57)",
        "Change in1 from x3 to h0 in z_score: x4 = MULTIPLY(h0, x3)",
    }


def test_a_change_that_is_silent_only_without_another_goes_with_it() -> None:
    """The second ABS is idempotent behind the first; without either the function is another."""
    between = diff_programs(program("a = TANH h0"), program("a = TANH h0\nb = ABS a\nc = ABS b"))
    assert len(essential_changes(between)) == 1


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_essential_computes_the_same_and_none_of_it_can_go(seed: int) -> None:
    candidate = descendant(library.TRANSFORMER, seed, 8)
    try:
        function = function_of(candidate)
    except InvalidProgramError:
        return
    between = diff_programs(library.TRANSFORMER, candidate)
    kept = essential_changes(between)
    assert function_of(between.apply(kept)) == function
    for number in kept:
        with suppress(InvalidProgramError, MalformedProgramError):
            assert function_of(between.apply(kept - {number})) != function


# --- the control ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER", "PRIMER_EZ"])
def test_the_variance_of_a_layer_norm_is_rewritten_without_effect(name: str) -> None:
    dna = library.get(name)
    twin = null_rewrite(dna)
    assert twin is not None
    assert structure(twin) != structure(dna)
    assert function_of(twin) == function_of(dna)


def test_a_program_without_a_variance_has_no_control() -> None:
    assert null_rewrite(library.get("TRANSFORMER_PP")) is None
    uncentred = program("m = RED_MEAN h0\nd = DIFFERENCE h0 m\ns = MULTIPLY d d\nr = ADD s h0")
    assert null_rewrite(uncentred) is None
