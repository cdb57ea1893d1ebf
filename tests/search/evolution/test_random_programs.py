"""Random programs: valid ones, of the baseline's size, from the candidate's generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.primitives import build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.programs import library
from primer_search.primitives.programs.validation import inlined_instruction_counts
from primer_search.search.evolution.proposals import CandidateRules, SeenPrograms
from primer_search.search.evolution.random_programs import propose_random, random_program

BASELINE = library.TRANSFORMER
RULES = CandidateRules.for_baseline(BASELINE, ModelConfig(layers=1, unit=8, length=16, vocabulary=300))


@pytest.mark.parametrize("number", range(20))
def test_a_random_program_has_the_baselines_shape(number: int) -> None:
    dna = random_program(BASELINE, np.random.default_rng(number))
    assert [len(each.instructions) for each in dna.subprograms] == [
        len(each.instructions) for each in BASELINE.subprograms
    ]
    assert len(dna.constants) == len(BASELINE.constants) and len(dna.dimensions) == len(BASELINE.dimensions)
    assert max(inlined_instruction_counts(dna)) > 0


def test_a_proposed_random_program_passes_every_check_and_is_new() -> None:
    known = SeenPrograms()
    for number in range(20):
        proposal = propose_random(BASELINE, np.random.default_rng(number), RULES, known, 500)
        assert proposal.same_as is None
        assert proposal.structure_hash not in known.structures
        check_causality(build_graph(proposal.dna))
        known.add(number, proposal.structure_hash, proposal.function)
        fates = dict(proposal.statistics)
        assert fates.pop("drawn") == sum(fates.values()) + 1


def test_the_same_generator_gives_the_same_program() -> None:
    first, second = (propose_random(BASELINE, np.random.default_rng(5), RULES, SeenPrograms(), 500) for _ in range(2))
    assert first.dna == second.dna


def test_if_no_random_program_is_valid_the_baseline_is_proposed_at_no_cost() -> None:
    proposal = propose_random(BASELINE, np.random.default_rng(0), CandidateRules(RULES.model, 1), SeenPrograms(), 5)
    assert (proposal.dna, proposal.same_as) == (BASELINE, 0)
