"""Programs for reading: what runs is shown, what is ignored is hidden, and differences are only differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from primer_search.primitives.differences.diff_printer import format_difference
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.pretty_printer import format_program
from primer_search.primitives.programs.program import DNA, Instruction
from primer_search.tests.support.strategies import dnas, mutants


@pytest.mark.parametrize("name", library.names())
def test_every_subprogram_and_instruction_has_its_line(name: str) -> None:
    dna = library.get(name)
    text = format_program(dna)
    for index, subprogram in enumerate(dna.subprograms):
        assert f"\n{index} {subprogram.name}(" in text
    assert text.count(" = ") == sum(len(subprogram.instructions) for subprogram in dna.subprograms)


def test_constants_widths_and_branches_are_resolved_and_unused_fields_hidden() -> None:
    text = format_program(library.PRIMER)
    assert "    x3 = self_attention(x2) x 8 branches\n" in text
    assert "1 self_attention(h0)   in branches: widths / 8\n" in text
    assert "    x2 = CONV_1X1(h0, width=48u) x 2 branches\n" in text
    assert "    x4 = C_MUL(x3, constant=-1.12)\n" in text
    assert "    x5 = residual(x4, h0)\n" in text
    assert "    x2 = EXP(h0)\n" in text
    assert text.startswith("constants -1.12 -0.57 0.0 · dimensions 8u 16u 48u 2u 4u 32u · length dependent\n")


def test_dead_instructions_are_marked_and_no_others() -> None:
    marked = [line for line in format_program(library.PRIMER).splitlines() if line.endswith("dead")]
    assert marked == [
        "  · x6 = MAX(x5, constant=-0.57)   dead",
        "  · x4 = MAX(x3, constant=-0.57)   dead",
    ]
    assert "dead" not in format_program(library.TRANSFORMER)


def test_an_argument_its_callee_never_reads_keeps_nothing_alive() -> None:
    texts = {"main": "a = SQUARE h0\nb = inner h0 a", "inner": "c = EXP h0"}
    assert "  · x2 = SQUARE(h0)   dead\n    x3 = inner(h0)" in format_program(assemble(texts, {"zero": 0.0}, (8,)))


def test_a_subprogram_nobody_calls_says_so() -> None:
    texts = {"main": "a = SQUARE h0", "inner": "c = EXP h0"}
    assert "1 inner(h0)   never called" in format_program(assemble(texts, {"zero": 0.0}, (8,)))


def test_nested_branches_multiply_their_divisors() -> None:
    texts = {"main": "a = outer h0 branches=2\nb = inner a", "outer": "c = inner h0 branches=4", "inner": "d = EXP h0"}
    assert "2 inner(h0)   in branches: widths / 1 or 8" in format_program(assemble(texts, {"zero": 0.0}, (8,)))


@given(dnas())
def test_any_program_can_be_listed_and_compared(dna: DNA) -> None:
    assert format_program(dna).count("\n\n") >= len(dna.subprograms)
    assert format_difference(dna, dna) == "no difference"
    assert format_difference(library.TRANSFORMER, dna) != "no difference"


def test_an_insertion_is_one_line_of_the_difference() -> None:
    text = format_difference(library.TRANSFORMER, library.PRIMER_EZ)
    assert [line for line in text.splitlines() if line.startswith(("+", "-"))] == [
        "+    x3 = DCONV_3X1(x2)",
        "+    x3 = SQUARE(x2)",
    ]
    assert "9 relu -> squared_relu" in text


def test_lines_whose_operands_only_shifted_are_not_marked() -> None:
    old = {"main": "a = EXP h0\nb = TANH a\nc = ADD b a"}
    new = {"main": "a = EXP h0\nz = SQUARE h0\nb = TANH a\nc = ADD b a"}
    banks = ({"zero": 0.0}, (8,))
    text = format_difference(assemble(old, *banks), assemble(new, *banks))
    assert text.splitlines() == [
        "0 main",
        "     x2 = EXP(h0)",
        "+  · x3 = SQUARE(h0)   dead",
        "     x4 = TANH(x2)",
        "     x5 = ADD(x4, x2)",
    ]


def test_a_changed_operand_or_bank_entry_is_marked() -> None:
    seed = library.TRANSFORMER
    rewired = seed.with_instructions(8, (Instruction("ADD", in1=1, in2=1),))
    assert "-    x2 = ADD(h0, h1)\n+    x2 = ADD(h1, h1)" in format_difference(seed, rewired)
    text = format_difference(seed, replace(seed, constants=(0.0, 0.25)))
    assert "- constants 0.0 0.125\n+ constants 0.0 0.25" in text
    assert "-    x5 = C_MUL(x3, constant=0.125)\n+    x5 = C_MUL(x3, constant=0.25)" in text


def test_a_change_in_an_ignored_field_is_said_to_be_invisible() -> None:
    silent = library.TRANSFORMER.with_instructions(9, (Instruction("MAX", in2=1),))
    assert format_difference(library.TRANSFORMER, silent).startswith("no visible difference")


def test_programs_with_other_subprograms_are_compared_by_name() -> None:
    text = format_difference(library.TRANSFORMER, library.TRANSFORMER_PP)
    assert "softmax" not in text
    assert "5 layer_norm -> rms_norm" in text
    assert "6 z_score, removed" in text


def test_mutants_can_be_compared_with_their_ancestor(rng: np.random.Generator) -> None:
    for mutant in mutants(rng, n=200):
        text = format_difference(library.TRANSFORMER, mutant)
        visible = format_program(mutant) != format_program(library.TRANSFORMER)
        assert visible == (not text.startswith("no visible difference")) or mutant == library.TRANSFORMER
