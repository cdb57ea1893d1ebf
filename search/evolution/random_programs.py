"""Random programs of the baseline's size, for searches without an initial program.

This is the paper's control: 78% of random programs of the Transformer's length fail within minutes of training
(section 2). Here ops and fields are drawn uniformly, and programs are drawn until one passes all checks that candidates
must pass.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ...models.parameter_range import fitted_unit
from ...primitives import DNA, InvalidProgramError, build_graph
from ...primitives.programs.program import (
    BRANCHES,
    MAX_INLINED_INSTRUCTIONS,
    RELATIVE_DIMENSIONS,
    Instruction,
    Subprogram,
)
from ...primitives.programs.validation import inlined_instruction_counts
from .proposals import CandidateRules, Proposal, SeenPrograms, identify
from .vocabulary import PAPER, Vocabulary

__all__ = ["propose_random", "random_program"]

DESCRIPTION = "A random program of the baseline's size"


def random_program(like: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> DNA:
    """Return a random program with as many subprograms, instructions and bank entries as `like`."""
    constants = tuple(float(constant) for constant in rng.standard_normal(len(like.constants)))
    dimensions = tuple(int(dimension) for dimension in rng.choice(RELATIVE_DIMENSIONS, len(like.dimensions)))
    count = len(like.subprograms)

    def instruction(subprogram: int, position: int) -> Instruction:
        choices = (*vocabulary.ops, *(f"call:{callee}" for callee in range(subprogram + 1, count)))
        return Instruction(
            op=choices[int(rng.integers(len(choices)))],
            in1=int(rng.integers(position + 2)),
            in2=int(rng.integers(position + 2)),
            constant=int(rng.integers(len(constants))),
            dimension=int(rng.integers(len(dimensions))),
            branches=int(rng.choice(BRANCHES)),
        )

    subprograms = (
        Subprogram(each.name, tuple(instruction(index, place) for place in range(len(each.instructions))))
        for index, each in enumerate(like.subprograms)
    )
    return DNA(constants, dimensions, tuple(subprograms), like.length_dependent)


def propose_random(
    baseline: DNA,
    rng: np.random.Generator,
    rules: CandidateRules,
    known: SeenPrograms,
    limit: int,
    vocabulary: Vocabulary = PAPER,
) -> Proposal:
    """Draw at most `limit` programs until one is valid and new; if none is, propose the baseline, without a training.

    Args:
        baseline: program whose size is used.
        rng: random generator of the candidate.
        rules: requirements of a candidate.
        known: programs that need no training.
        limit: largest number of programs to draw.
        vocabulary: ops to draw from.
    """
    outcomes: Counter[str] = Counter()
    for _ in range(limit):
        outcomes["drawn"] += 1
        dna = random_program(baseline, rng, vocabulary)
        if max(inlined_instruction_counts(dna)) > MAX_INLINED_INSTRUCTIONS:
            outcomes["invalid_size"] += 1
            continue
        try:
            identity = identify(dna, rules, known)
        except InvalidProgramError as error:
            outcomes[f"invalid_{error.reason}"] += 1
            continue
        if identity.same_as is None:
            structure, function = identity.structure_hash, identity.function
            return Proposal(dna, (DESCRIPTION,), structure, function, None, outcomes, unit=identity.unit)
        outcomes["same_structure" if identity.same_structure else "same_function"] += 1
    graph = build_graph(baseline, length_dependent=rules.model.length_dependent)
    description, unit = f"None of {limit} random programs was valid and new", fitted_unit(graph, rules.model)
    return Proposal(baseline, (description,), graph.structure_hash, None, 0, outcomes, unit=unit)
