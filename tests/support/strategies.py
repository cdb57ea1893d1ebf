"""Programs for tests: random ones, mutants of library programs, and Hypothesis strategies of both.

All are well-formed; about seven in ten also have kinds and widths that fit, and fewer are causal. Tests that need
such ones filter with `build_graph` and `check_causality`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import BRANCHES, DNA, RELATIVE_DIMENSIONS, Instruction, Subprogram
from primer_search.search.evolution.paper_mutations import mutate

__all__ = ["dnas", "mutants", "mutants_of_the_library", "random_dna"]

PRIMITIVES = tuple(OPS)


def random_dna(
    rng: np.random.Generator,
    subprograms: int = 3,
    instructions: int = 6,
    ops: Sequence[str] = PRIMITIVES,
    branches: Sequence[int] = BRANCHES,
) -> DNA:
    """A random well-formed program.

    Args:
        rng: the source of randomness.
        subprograms: how many there are; at 1 there are no calls.
        instructions: the most that one subprogram holds.
        ops: the primitives to draw from.
        branches: the branchings to draw from.
    """
    constants = tuple(float(constant) for constant in rng.normal(size=rng.integers(1, 4)))
    dimensions = tuple(int(dimension) for dimension in rng.choice(RELATIVE_DIMENSIONS, size=rng.integers(1, 5)))

    def instruction(index: int, position: int) -> Instruction:
        choices = [*ops, *(f"call:{callee}" for callee in range(index + 1, subprograms))]
        return Instruction(
            op=choices[int(rng.integers(len(choices)))],
            in1=int(rng.integers(position + 2)),
            in2=int(rng.integers(position + 2)),
            constant=int(rng.integers(len(constants))),
            dimension=int(rng.integers(len(dimensions))),
            branches=int(branches[int(rng.integers(len(branches)))]),
        )

    def subprogram(index: int) -> Subprogram:
        length = int(rng.integers(1, instructions + 1))
        return Subprogram(f"s{index}", tuple(instruction(index, position) for position in range(length)))

    return DNA(constants, dimensions, tuple(map(subprogram, range(subprograms))))


def mutants(rng: np.random.Generator, start: DNA = library.TRANSFORMER, n: int = 100) -> list[DNA]:
    """Descendants of a program: each is one mutation from `start` or from an earlier one of them, drawn uniformly."""
    family = [start]
    for _ in range(n):
        family.append(mutate(family[int(rng.integers(len(family)))], rng)[0])
    return family[1:]


@st.composite
def dnas(draw: st.DrawFn, max_subprograms: int = 4, max_instructions: int = 6) -> DNA:
    """Any well-formed program, names and unused fields included; shrinks to one instruction."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    constants = tuple(draw(st.lists(finite, min_size=1, max_size=16)))
    dimensions = tuple(draw(st.lists(st.sampled_from(RELATIVE_DIMENSIONS), min_size=1, max_size=16)))
    count = draw(st.integers(1, max_subprograms))

    def instruction(index: int, position: int) -> Instruction:
        calls = [f"call:{callee}" for callee in range(index + 1, count)]
        operand = st.integers(0, position + 1)
        constant, dimension = st.integers(0, len(constants) - 1), st.integers(0, len(dimensions) - 1)
        op = st.sampled_from([*PRIMITIVES, *calls])
        fields = st.tuples(op, operand, operand, constant, dimension, st.sampled_from(BRANCHES))
        return Instruction(*draw(fields))

    def subprogram(index: int) -> Subprogram:
        length = draw(st.integers(1, max_instructions))
        body = tuple(instruction(index, position) for position in range(length))
        return Subprogram(draw(st.text(max_size=20)), body)

    return DNA(constants, dimensions, tuple(map(subprogram, range(count))), draw(st.booleans()))


@st.composite
def mutants_of_the_library(draw: st.DrawFn, max_mutations: int = 20) -> DNA:
    """A library program after some mutations; shrinks to the Transformer itself."""
    dna = library.get(draw(st.sampled_from(library.names())))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for _ in range(draw(st.integers(0, max_mutations))):
        dna = mutate(dna, rng)[0]
    return dna
