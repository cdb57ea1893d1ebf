"""The six mutations follow the paper to the letter, and nothing they make is malformed."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.pretty_printer import format_instruction
from primer_search.primitives.programs.program import (
    BRANCHES,
    DNA,
    MAX_INLINED_INSTRUCTIONS,
    RELATIVE_DIMENSIONS,
    Instruction,
    Subprogram,
)
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.primitives.programs.validation import check_well_formed, inlined_instruction_counts
from primer_search.search.evolution.paper_mutations import MUTATIONS, mutate
from primer_search.tests.support.strategies import dnas, mutants_of_the_library, random_dna

CHAIN = assemble(
    {"main": "a = EXP h0\nb = TANH a\nc = ADD b a\nd = MULTIPLY c b"},
    {"zero": 0.0},
    (8,),
)
SINGLE = DNA((0.0,), (8,), (Subprogram("main", (Instruction("SQUARE"),)),))


def children(name: str, dna: DNA, rng: np.random.Generator, n: int) -> list[DNA]:
    """What one type of mutation makes of a program in `n` draws."""
    results = (MUTATIONS[name](dna, rng) for _ in range(n))
    return [result[0] for result in results if result is not None]


def size(dna: DNA) -> int:
    return sum(len(subprogram.instructions) for subprogram in dna.subprograms)


def text(dna: DNA, index: int = 0) -> list[str]:
    return [format_instruction(dna, index, k) for k in range(len(dna.subprograms[index].instructions))]


@pytest.mark.parametrize("name", library.names())
def test_every_descendant_is_well_formed(name: str, rng: np.random.Generator) -> None:
    dna = library.get(name)
    for _ in range(1_250):  # 10,000 in all
        parent = dna
        dna, _ = mutate(dna, rng)
        check_well_formed(dna)
        assert dna != parent
        assert len(dna.subprograms) == len(parent.subprograms)
        assert [s.name for s in dna.subprograms] == [s.name for s in parent.subprograms]
        assert dna.length_dependent == parent.length_dependent


@given(dnas(), st.integers(0, 2**32))
def test_any_program_can_be_mutated(dna: DNA, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(5):
        dna, _ = mutate(dna, rng)
        check_well_formed(dna)


@given(mutants_of_the_library())
def test_mutants_survive_the_round_trip_through_json(dna: DNA) -> None:
    assert dna_from_json(dna_to_json(dna)) == dna


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_changes_one_thing_and_describes_it(name: str, rng: np.random.Generator) -> None:
    for _ in range(300):
        result = MUTATIONS[name](library.TRANSFORMER, rng)
        assert result is not None
        child, sentence = result
        check_well_formed(child)
        assert sentence.startswith(name)
        assert "\n" not in sentence
        same = [a == b for a, b in zip(library.TRANSFORMER.subprograms, child.subprograms, strict=True)]
        banks = (child.constants, child.dimensions) == (library.TRANSFORMER.constants, library.TRANSFORMER.dimensions)
        assert banks == (name != "Mutate bank value")
        assert same.count(False) <= {"Mutate bank value": 0, "Delete and insert": 2}.get(name, 1)


def test_types_are_drawn_uniformly(rng: np.random.Generator) -> None:
    sentences = [mutate(library.TRANSFORMER, rng)[1] for _ in range(6_000)]
    longest_first = sorted(MUTATIONS, key=len, reverse=True)
    counts = Counter(next(name for name in longest_first if s.startswith(name)) for s in sentences)
    assert set(counts) == set(MUTATIONS)
    # Six standard deviations of a count with mean 1000; a swap of equal instructions is drawn again.
    assert all(820 < count < 1_180 for count in counts.values()), counts


def test_the_same_state_gives_the_same_child() -> None:
    first = [mutate(library.TRANSFORMER, np.random.default_rng(k)) for k in range(50)]
    again = [mutate(library.TRANSFORMER, np.random.default_rng(k)) for k in range(50)]
    assert first == again
    assert len(set(first)) > 40


def test_the_parent_and_the_global_random_state_stay_as_they_were(rng: np.random.Generator) -> None:
    before, state = dna_to_json(library.PRIMER), pickle.dumps(np.random.get_state())  # noqa: NPY002
    for _ in range(100):
        mutate(library.PRIMER, rng)
    assert dna_to_json(library.PRIMER) == before
    assert pickle.dumps(np.random.get_state()) == state  # noqa: NPY002


def test_delete_points_readers_at_the_first_operand(rng: np.random.Generator) -> None:
    seen = {tuple(text(child)) for child in children("Delete", CHAIN, rng, 100)}
    assert seen == {
        ("x2 = TANH(h0)", "x3 = ADD(x2, h0)", "x4 = MULTIPLY(x3, x2)"),
        ("x2 = EXP(h0)", "x3 = ADD(x2, x2)", "x4 = MULTIPLY(x3, x2)"),
        ("x2 = EXP(h0)", "x3 = TANH(x2)", "x4 = MULTIPLY(x3, x3)"),
        ("x2 = EXP(h0)", "x3 = TANH(x2)", "x4 = ADD(x3, x2)"),
    }


def test_a_subprogram_keeps_at_least_one_instruction(rng: np.random.Generator) -> None:
    for name in ("Delete", "Delete and insert", "Swap"):
        assert MUTATIONS[name](SINGLE, rng) is None
    dna = library.TRANSFORMER
    for _ in range(200):
        result = MUTATIONS["Delete"](dna, rng)
        dna = dna if result is None else result[0]
    assert [len(subprogram.instructions) for subprogram in dna.subprograms] == [1] * 10
    assert mutate(SINGLE, rng)[0] != SINGLE


def test_an_insertion_is_read_by_nothing_unless_it_is_the_output(rng: np.random.Generator) -> None:
    places = Counter()
    for child in children("Insert", CHAIN, rng, 500):
        body = child.subprograms[0].instructions
        assert len(body) == 5
        place = next(k for k in range(5) if _without(child, k) == CHAIN)
        places[place] += 1
        if place < 4:
            assert all(place + 2 not in (i.in1, i.in2) for i in body)
    assert set(places) == {0, 1, 2, 3, 4}
    assert min(places.values()) > 50


def _without(dna: DNA, place: int) -> DNA:
    """The program without an instruction that nothing reads."""

    def renumbered(value: int) -> int:
        return value - (value > place + 2)

    body = dna.subprograms[0].instructions
    later = (replace(i, in1=renumbered(i.in1), in2=renumbered(i.in2)) for i in body[place + 1 :])
    return dna.with_instructions(0, (*body[:place], *later))


def test_an_insertion_draws_every_admissible_op_and_field(rng: np.random.Generator) -> None:
    texts = {"main": "a = EXP h0\nb = TANH a", "one": "a = ABS h0", "other": "a = ABS h0"}
    start = assemble(texts, {"zero": 0.0, "one": 1.0}, (8, 4, 2))
    drawn: dict[str, set[str | int]] = {}
    for child in children("Insert", start, rng, 9_000):  # one in nine is appended to MAIN
        body = child.subprograms[0].instructions
        if len(body) == 3 and body[:2] == start.subprograms[0].instructions:
            for name in ("op", "in1", "in2", "constant", "dimension", "branches"):
                drawn.setdefault(name, set()).add(getattr(body[-1], name))
    assert drawn["op"] == {*(op.name for op in OPS.values() if op.origin == "paper"), "call:1", "call:2"}
    assert drawn["in1"] == drawn["in2"] == {0, 1, 2, 3}
    assert drawn["constant"] == {0, 1}
    assert drawn["dimension"] == {0, 1, 2}
    assert drawn["branches"] == set(BRANCHES)


def test_delete_and_insert_keeps_the_size(rng: np.random.Generator) -> None:
    assert {size(child) for child in children("Delete and insert", library.PRIMER, rng, 200)} == {size(library.PRIMER)}


def test_a_field_mutation_changes_exactly_one_field_and_finds_all_six(rng: np.random.Generator) -> None:
    seed = library.TRANSFORMER
    fields = Counter()
    for child in children("Mutate field", seed, rng, 600):
        pairs = [
            (a, b)
            for old, new in zip(seed.subprograms, child.subprograms, strict=True)
            for a, b in zip(old.instructions, new.instructions, strict=True)
            if a != b
        ]
        assert len(pairs) == 1
        names = ("op", "in1", "in2", "constant", "dimension", "branches")
        changed = [name for name in names if getattr(pairs[0][0], name) != getattr(pairs[0][1], name)]
        assert len(changed) == 1
        fields[changed[0]] += 1
    assert len(fields) == 6
    assert min(fields.values()) > 50


def test_swapped_instructions_take_each_others_places_in_the_graph(rng: np.random.Generator) -> None:
    seen = {tuple(text(child)) for child in children("Swap", CHAIN, rng, 200)}
    assert len(seen) == 6
    assert ("x2 = TANH(h0)", "x3 = EXP(x2)", "x4 = ADD(x3, x2)", "x5 = MULTIPLY(x4, x3)") in seen
    assert ("x2 = EXP(h0)", "x3 = TANH(x2)", "x4 = MULTIPLY(x3, x2)", "x5 = ADD(x4, x3)") in seen


def test_a_swap_leaves_all_inputs_in_their_places(rng: np.random.Generator) -> None:
    for child in children("Swap", library.PRIMER, rng, 200):
        for old, new in zip(library.PRIMER.subprograms, child.subprograms, strict=True):
            assert [(i.in1, i.in2) for i in old.instructions] == [(i.in1, i.in2) for i in new.instructions]
            assert Counter(i.op for i in old.instructions) == Counter(i.op for i in new.instructions)


def test_bank_values_mutate_as_in_the_paper(rng: np.random.Generator) -> None:
    start = replace(library.TRANSFORMER, constants=(0.0, 100.0))
    constants: tuple[list[float], list[float]] = ([], [])
    dimensions: list[set[int]] = [set() for _ in start.dimensions]
    for child in children("Mutate bank value", start, rng, 4_000):
        changed = [k for k in range(2) if child.constants[k] != start.constants[k]]
        turned = [k for k in range(6) if child.dimensions[k] != start.dimensions[k]]
        assert len(changed) + len(turned) == 1
        for k in changed:
            constants[k].append(child.constants[k])
        for k in turned:
            dimensions[k].add(child.dimensions[k])
    assert abs(np.mean(constants[0])) < 0.2  # 0 * 10^X + Y is Y, standard normal
    assert abs(np.std(constants[0]) - 1.0) < 0.15
    logarithms = np.log10(np.abs(constants[1]) + 1e-9)  # 100 * 10^X + Y: about 2 + X in the middle
    assert abs(np.median(logarithms) - 2.0) < 0.2
    assert 0.7 < np.quantile(logarithms, 0.84) - np.median(logarithms) < 1.3
    for k, seen in enumerate(dimensions):
        assert seen == set(RELATIVE_DIMENSIONS) - {start.dimensions[k]}


@pytest.mark.parametrize("constant", [1.7e308, -1.7e308, 1e300, 5e-324])
def test_extreme_constants_stay_within_float32(constant: float, rng: np.random.Generator) -> None:
    start = replace(SINGLE, constants=(constant,))
    for child in children("Mutate bank value", start, rng, 50):
        assert child.constants[0] == constant or abs(child.constants[0]) < 3.5e38


def test_children_stay_within_the_bound_on_inlined_instructions(rng: np.random.Generator) -> None:
    twelve = [
        Subprogram(f"level{k}", (Instruction(f"call:{k + 1}"), Instruction(f"call:{k + 1}", in1=2))) for k in range(12)
    ]
    full = DNA((0.0,), (8,), (*twelve, Subprogram("leaf", (Instruction("SQUARE"),))))
    assert inlined_instruction_counts(full)[0] == MAX_INLINED_INSTRUCTIONS
    for start in (full, random_dna(rng, subprograms=12, instructions=4)):
        dna = start
        for _ in range(100):
            dna, _ = mutate(dna, rng)
            assert max(inlined_instruction_counts(dna)) <= MAX_INLINED_INSTRUCTIONS
