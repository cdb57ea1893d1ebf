"""Mutations of live code edit places that the output depends on, and every edit takes effect."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives import build_graph
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.program import DNA
from primer_search.primitives.programs.validation import check_well_formed
from primer_search.search.evolution.vocabulary import PAPER
from primer_search.search.guided.live_code import LiveCode
from primer_search.search.guided.live_mutations import LIVE_MUTATIONS, mutate_live
from primer_search.tests.support.strategies import dnas

DEAD = assemble(
    {"main": "a = EXP h0\nb = TANH h0\nc = f b h1", "f": "a = SIN h0", "g": "a = COS h0"}, {"one": 1.0}, (8,)
)


def children(name: str, dna: DNA, rng: np.random.Generator, count: int) -> list[DNA]:
    results = (LIVE_MUTATIONS[name][0](LiveCode(dna), rng) for _ in range(count))
    return [result[0] for result in results if result is not None]


def test_the_transformer_has_55_live_edges() -> None:
    assert len(LiveCode(library.TRANSFORMER).edges) == 55


def test_dead_instructions_unread_arguments_and_uncalled_subprograms_have_no_live_edge() -> None:
    edges = {(edge.subprogram, edge.position, edge.slot) for edge in LiveCode(DEAD).edges}
    assert edges == {(0, 1, "in1"), (0, 2, "in1"), (0, 3, "in1"), (1, 0, "in1"), (1, 1, "in1")}


def test_every_primitive_belongs_to_one_family() -> None:
    assert sorted(op for family in PAPER.families.values() for op in family) == sorted(
        op.name for op in OPS.values() if op.origin == "paper"
    )


@pytest.mark.parametrize("name", library.names())
def test_every_descendant_is_well_formed_and_differs_from_its_parent(name: str, rng: np.random.Generator) -> None:
    dna = library.get(name)
    for _ in range(300):
        parent = dna
        dna, description = mutate_live(dna, rng)
        check_well_formed(dna)
        assert dna != parent
        assert description.split(" in ")[0].split(":")[0] in LIVE_MUTATIONS
        assert [len(dna.constants), len(dna.dimensions)] == [len(parent.constants), len(parent.dimensions)]
        assert [s.name for s in dna.subprograms] == [s.name for s in parent.subprograms]


@given(dnas(), st.integers(0, 2**32))
def test_any_program_can_be_mutated(dna: DNA, seed: int) -> None:
    child, _ = mutate_live(dna, np.random.default_rng(seed))
    check_well_formed(child)


def test_an_insertion_is_read_at_once(rng: np.random.Generator) -> None:
    chain = assemble({"main": "a = EXP h0\nb = TANH a"}, {"one": 1.0}, (8,))
    for child in children("Insert", chain, rng, 200):
        assert len(LiveCode(child).edges) > len(LiveCode(chain).edges)


def test_an_insertion_changes_the_program_unless_it_computes_what_was_there(rng: np.random.Generator) -> None:
    structure, unchanged, valid = build_graph(library.TRANSFORMER).structure_hash, 0, 0
    for child in children("Insert", library.TRANSFORMER, rng, 300):
        try:
            unchanged += build_graph(child).structure_hash == structure
            valid += 1
        except InvalidProgramError:
            continue
    assert valid > 150
    assert unchanged < 0.2 * valid  # MASK of activations, ABS of a square, ...


def test_a_wrap_joins_the_old_value_with_the_new_one(rng: np.random.Generator) -> None:
    chain = assemble({"main": "a = TANH h0"}, {"one": 1.0}, (8,))
    for child in children("Wrap", chain, rng, 200):
        instructions = child.subprograms[0].instructions
        assert len(instructions) == 3
        join = next(place for place, each in enumerate(instructions) if each.op in ("ADD", "MULTIPLY") and place > 0)
        assert join + 1 in (instructions[join].in1, instructions[join].in2)


def test_a_deletion_removes_a_live_instruction_only(rng: np.random.Generator) -> None:
    for child in children("Delete", DEAD, rng, 100):
        assert child.subprograms[0].instructions[0].op == "EXP"
        assert len(child.subprograms[0].instructions) == 2


def test_constants_change_by_gentle_factors_and_only_where_they_are_read(rng: np.random.Generator) -> None:
    dna = assemble({"main": "a = C_MUL h0 constant=two"}, {"unread": 5.0, "two": 2.0}, (8,))
    ratios = []
    for child in children("Constant", dna, rng, 500):
        assert child.constants[0] == 5.0
        ratios.append(np.log2(child.constants[1] / 2.0))
    assert abs(np.mean(ratios)) < 0.2
    assert np.std(ratios) == pytest.approx(1.0, abs=0.15)
    zero = replace(dna, constants=(5.0, 0.0))
    assert all(child.constants[1] != 0.0 for child in children("Constant", zero, rng, 20))


def test_types_and_families_are_drawn_by_their_weights(rng: np.random.Generator) -> None:
    kinds = Counter(mutate_live(library.TRANSFORMER, rng)[1].split(" in ")[0].split(":")[0] for _ in range(3_000))
    weights = {name: weight for name, (_, weight) in LIVE_MUTATIONS.items()}
    for name, weight in weights.items():
        # Mutations that do not apply are drawn again, which shifts the shares a little.
        assert kinds[name] == pytest.approx(3_000 * weight / sum(weights.values()), rel=0.3)


def test_the_same_state_gives_the_same_child() -> None:
    first = [mutate_live(library.TRANSFORMER, np.random.default_rng(k)) for k in range(50)]
    assert first == [mutate_live(library.TRANSFORMER, np.random.default_rng(k)) for k in range(50)]
