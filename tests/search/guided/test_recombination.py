"""A merge has the edits of both programs, and is refused where they conflict."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.primitives import build_graph
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.pretty_printer import format_instruction
from primer_search.primitives.programs.program import DNA
from primer_search.primitives.programs.validation import check_well_formed
from primer_search.search.guided.live_mutations import mutate_live
from primer_search.search.guided.recombination import merge_programs


def program(text: str, constants: tuple[float, ...] = (0.5,), dimensions: tuple[int, ...] = (8,)) -> DNA:
    return assemble({"main": text}, {f"c{place}": value for place, value in enumerate(constants)}, dimensions)


def lines(dna: DNA | None) -> list[str]:
    assert dna is not None
    return [format_instruction(dna, 0, place) for place in range(len(dna.subprograms[0].instructions))]


OLD = program("a = EXP h0\nb = TANH a\nc = ADD b a")


def test_squared_relu_and_depthwise_convolutions_merge_to_primer_ez() -> None:
    merged = merge_programs(
        library.get("TRANSFORMER", 8), library.get("TRANSFORMER_MDHA", 8), library.get("TRANSFORMER_SQUARED_RELU", 8)
    )
    assert merged is not None
    assert build_graph(merged).structure_hash == build_graph(library.get("PRIMER_EZ", 8)).structure_hash


def test_a_merge_with_the_ancestor_is_the_other_program(rng: np.random.Generator) -> None:
    for _ in range(100):
        child, _ = mutate_live(library.TRANSFORMER, rng)
        assert merge_programs(library.TRANSFORMER, child, library.TRANSFORMER) == child
        assert merge_programs(library.TRANSFORMER, library.TRANSFORMER, child) == child
        assert merge_programs(library.TRANSFORMER, child, child) == child


def test_insertions_on_different_edges_are_both_kept() -> None:
    merged = merge_programs(
        OLD,
        program("a = EXP h0\nn = SIN a\nb = TANH n\nc = ADD b a"),
        program("a = EXP h0\nb = TANH a\nm = COS b\nc = ADD m a"),
    )
    assert lines(merged) == ["x2 = EXP(h0)", "x3 = SIN(x2)", "x4 = TANH(x3)", "x5 = COS(x4)", "x6 = ADD(x5, x2)"]


def test_insertions_on_the_same_edge_are_chained() -> None:
    merged = merge_programs(
        OLD,
        program("a = EXP h0\nn = SIN a\nb = TANH n\nc = ADD b a"),
        program("a = EXP h0\nm = COS a\nb = TANH m\nc = ADD b a"),
    )
    assert lines(merged) == ["x2 = EXP(h0)", "x3 = SIN(x2)", "x4 = COS(x3)", "x5 = TANH(x4)", "x6 = ADD(x5, x2)"]


def test_a_deletion_and_an_insertion_elsewhere_merge() -> None:
    merged = merge_programs(
        OLD, program("a = EXP h0\nc = ADD a a"), program("a = EXP h0\nb = TANH a\nc = ADD b a\nd = SIN c")
    )
    assert lines(merged) == ["x2 = EXP(h0)", "x3 = ADD(x2, x2)", "x4 = SIN(x3)"]


def test_different_changes_of_one_field_conflict() -> None:
    assert (
        merge_programs(
            OLD, program("a = SIN h0\nb = TANH a\nc = ADD b a"), program("a = COS h0\nb = TANH a\nc = ADD b a")
        )
        is None
    )
    banks = program("a = EXP h0", (1.0,)), program("a = EXP h0", (2.0,)), program("a = EXP h0", (3.0,))
    assert merge_programs(*banks) is None


def test_bank_entries_of_both_are_merged() -> None:
    text = "a = C_MUL h0 constant=c0\nb = C_MUL a constant=c1"
    merged = merge_programs(program(text, (1.0, 2.0)), program(text, (3.0, 2.0)), program(text, (1.0, 4.0)))
    assert merged is not None
    assert merged.constants == (3.0, 4.0)


def test_programs_with_other_banks_or_subprograms_are_not_merged() -> None:
    assert merge_programs(OLD, program("a = EXP h0", (1.0, 2.0)), OLD) is None


@pytest.mark.parametrize("seed", range(3))
def test_most_pairs_of_single_edits_merge_to_a_well_formed_program_that_differs_from_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tried = merged = 0
    while tried < 150:
        first, second = (mutate_live(library.TRANSFORMER, rng)[0] for _ in range(2))
        try:
            structures = {build_graph(each).structure_hash for each in (library.TRANSFORMER, first, second)}
        except InvalidProgramError:
            continue
        if len(structures) < 3:
            continue
        tried += 1
        child = merge_programs(library.TRANSFORMER, first, second)
        if child is None:
            continue
        check_well_formed(child)
        try:
            merged += build_graph(child).structure_hash not in structures
        except InvalidProgramError:
            continue
    assert merged > 0.85 * tried
