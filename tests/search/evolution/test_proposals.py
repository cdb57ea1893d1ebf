"""Proposals: a child is valid and new, or says which candidate it equals; and a function of what it is given alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.parameter_range import fitted_unit, parameters_at
from primer_search.primitives import build_graph
from primer_search.primitives.causality.causality_test import check_causality
from primer_search.primitives.errors import InvalidProgramError
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.liveness import same_live_code
from primer_search.primitives.programs.program import DNA
from primer_search.search.evolution import proposals as proposals_module
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.evolution.edit_kinds import edit_kind
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.search.evolution.proposals import CandidateRules, Proposal, SeenPrograms, identify, propose

MODEL = ModelConfig(layers=1, unit=8, length=16, vocabulary=300, parameter_cap=1.2)
BASELINE = library.get("TRANSFORMER", MODEL.unit)
TINY = assemble(
    {"main": "mixed = CONV_1X1 h0 width=8\nbent = TANH mixed\noutput = ADD bent h0"}, {"zero": 0.0}, (8, 16)
)


def known_of(*programs: DNA) -> SeenPrograms:
    known = SeenPrograms()
    for number, program in enumerate(programs):
        graph = build_graph(program)
        known.add(number, graph.structure_hash, fingerprint(graph))
    return known


def proposal_of(
    parent: DNA, seed: int, known: SeenPrograms | None = None, limit: int = 100, **model: float
) -> Proposal:
    rules = CandidateRules.for_baseline(parent, replace(MODEL, **model))  # type: ignore[arg-type]
    known = known_of(parent) if known is None else known
    return propose(candidate(parent), np.random.default_rng(seed), rules, known, limit)


def candidate(dna: DNA) -> Candidate:
    return Candidate(0, dna, None, (), build_graph(dna).structure_hash)


@pytest.fixture(scope="module")
def proposals() -> list[Proposal]:
    return [proposal_of(BASELINE, seed) for seed in range(25)]


def test_every_child_is_valid_new_and_not_over_the_cap(proposals: list[Proposal]) -> None:
    rules = CandidateRules.for_baseline(BASELINE, MODEL)
    parent = build_graph(BASELINE)
    for proposal in proposals:
        graph = build_graph(proposal.dna)
        check_causality(graph)
        assert proposal.same_as is None
        assert proposal.structure_hash == graph.structure_hash != parent.structure_hash
        assert proposal.function == fingerprint(graph) != fingerprint(parent)
        assert parameters_at(graph, rules.model, rules.model.unit) <= rules.max_parameters
        assert proposal.dna != BASELINE and proposal.mutations


def test_the_results_of_all_mutations_add_up(proposals: list[Proposal]) -> None:
    for proposal in proposals:
        fates = dict(proposal.statistics)
        mutations = fates.pop("mutations")
        accepted = 1  # the last one, which has no name for it
        assert sum(fates.values()) + accepted == mutations
        kept = sum(count for fate, count in fates.items() if not fate.startswith("invalid"))
        assert len(proposal.mutations) == kept + accepted


def test_the_results_are_counted_by_kind_of_edit(proposals: list[Proposal]) -> None:
    for proposal in proposals:
        counts = proposal.kinds.values()
        assert sum(count["tried"] for count in counts) == proposal.statistics["mutations"]
        invalid = sum(count for fate, count in proposal.statistics.items() if fate.startswith("invalid"))
        assert sum(count["invalid"] for count in counts) == invalid
        assert proposal.kinds[edit_kind(proposal.mutations[-1])]["new"] == 1
    assert len({kind for proposal in proposals for kind in proposal.kinds}) > 3


def test_silent_mutations_accumulate(proposals: list[Proposal]) -> None:
    patient = [proposal for proposal in proposals if proposal.statistics.get("unchanged")]
    assert patient
    assert all(len(proposal.mutations) >= 2 for proposal in patient)


def test_a_proposal_is_a_function_of_parent_generator_and_what_is_known(proposals: list[Proposal]) -> None:
    assert [proposal_of(BASELINE, seed) for seed in range(3)] == proposals[:3]
    assert len({proposal.dna for proposal in proposals}) > 20


def test_known_programs_are_not_proposed_again(proposals: list[Proposal]) -> None:
    known = known_of(BASELINE, *(proposal.dna for proposal in proposals[:3]))
    for seed in range(3):
        again = proposal_of(BASELINE, seed, known)
        assert again.structure_hash not in {proposal.structure_hash for proposal in proposals[:3]}
        assert again.mutations[: len(proposals[seed].mutations)] == proposals[seed].mutations


def test_proposing_does_not_change_the_seen_programs() -> None:
    known = known_of(BASELINE)
    before = dict(known.structures), dict(known.functions)
    proposal_of(BASELINE, 0, known)
    assert (known.structures, known.functions) == before


def test_after_the_last_attempt_the_child_names_the_candidate_it_equals() -> None:
    equals = [proposal for seed in range(40) if (proposal := proposal_of(TINY, seed, limit=1)).same_as is not None]
    assert len(equals) >= 5
    for proposal in equals:
        assert proposal.same_as == 0
        assert proposal.statistics["mutations"] == 1
        assert build_graph(proposal.dna).structure_hash == proposal.structure_hash
        if "same_function" not in proposal.statistics:
            assert proposal.structure_hash == build_graph(TINY).structure_hash
            assert proposal.function is None


def test_a_child_of_known_function_and_new_structure_is_recognised() -> None:
    # x tanh(x) is even: of all children, those that only turn the sign in front of it are twins the rewrites may miss.
    parent = assemble({"main": "a = MULTIPLY h0 h0\nb = TANH a"}, {"zero": 0.0}, (8,))
    twin = fingerprint(build_graph(parent))
    assert twin is not None
    known = SeenPrograms(structures={}, functions={twin: 7})
    seen = [proposal_of(parent, seed, known, limit=1) for seed in range(60)]
    equal = [proposal for proposal in seen if proposal.same_as is not None]
    assert equal
    assert all(proposal.same_as == 7 and proposal.function == twin for proposal in equal)


def test_without_a_valid_mutation_the_parent_is_proposed_again() -> None:
    seen = [proposal_of(TINY, seed, limit=1) for seed in range(40)]
    refused = [each for each in seen if any(fate.startswith("invalid") for fate in each.statistics)]
    assert refused
    for proposal in refused:
        assert proposal.dna == TINY and proposal.mutations == () and proposal.same_as == 0


def test_a_silent_mutation_keeps_the_identity_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(proposals_module, "identify", lambda dna, *rest: built.append(dna) or identify(dna, *rest))
    silent = 0
    for seed in range(40):
        proposal = proposal_of(TINY, seed, limit=1)
        if proposal.statistics.get("unchanged") and proposal.dna not in built:
            silent += 1
            assert proposal.structure_hash == build_graph(proposal.dna).structure_hash and proposal.same_as == 0
    assert silent >= 5


def test_programs_with_the_same_live_code_have_the_same_structure() -> None:
    silent = 0
    for name in ("TRANSFORMER", "PRIMER_EZ"):
        rng, dna = np.random.default_rng(3), library.get(name, MODEL.unit)
        for _ in range(150):
            mutant, _ = mutate(dna, rng)
            if same_live_code(dna, mutant):
                silent += 1
                assert outcome(mutant) == outcome(dna)
                dna = mutant
    assert silent > 50


def outcome(dna: DNA) -> str:
    try:
        return build_graph(dna).structure_hash
    except InvalidProgramError as error:
        return error.reason


def test_a_change_of_live_code_is_noticed() -> None:
    body = "mixed = CONV_1X1 h0 width=8\nunread = C_MUL mixed constant=factor\nbent = TANH mixed\noutput = ADD bent h0"
    dna = assemble({"main": body}, {"factor": 0.5, "other": 0.25}, (8, 16))

    def replaced(position: int, **fields: Any) -> DNA:
        instructions = list(dna.subprograms[0].instructions)
        instructions[position] = replace(instructions[position], **fields)
        return dna.with_instructions(0, tuple(instructions))

    assert same_live_code(dna, replaced(1, op="EXP")) and same_live_code(dna, replaced(0, constant=1))
    assert same_live_code(dna, replace(dna, constants=(0.75, 0.25)))
    assert not same_live_code(dna, replaced(0, dimension=1)) and not same_live_code(dna, replaced(2, op="SIN"))
    assert not same_live_code(dna, replaced(3, in2=2)) and not same_live_code(dna, replaced(0, branches=2))
    assert not same_live_code(dna, replace(dna, dimensions=(16, 8)))


def test_structures_alone_skip_the_proof_and_the_fingerprint() -> None:
    leaky = assemble({"main": "scores = T_MAT_MUL h0 h0\nmixed = MAT_MUL scores h0"}, {"zero": 0.0}, (8,))
    rules = CandidateRules.for_baseline(BASELINE, MODEL)
    with pytest.raises(InvalidProgramError, match="future"):
        identify(leaky, rules, SeenPrograms())
    found = identify(leaky, rules, SeenPrograms(), structure_only=True)
    assert (found.structure_hash, found.function, found.same_as) == (build_graph(leaky).structure_hash, None, None)


def test_a_proposal_names_the_unit_that_fits_it() -> None:
    own = parameters_at(build_graph(BASELINE), MODEL, MODEL.unit)
    model = replace(MODEL, parameter_range=(int(0.95 * own), int(1.05 * own)))
    rules = CandidateRules.for_baseline(BASELINE, model)
    parent = candidate(BASELINE)
    found = [propose(parent, np.random.default_rng(seed), rules, known_of(BASELINE), 100) for seed in range(25)]
    assert [each.unit for each in found] == [fitted_unit(build_graph(each.dna), model) for each in found]
    assert any(each.unit is not None for each in found)


def test_the_cap_is_a_multiple_of_the_baselines_parameters() -> None:
    rules = CandidateRules.for_baseline(TINY, MODEL)
    own = parameters_at(build_graph(TINY), rules.model, rules.model.unit)
    assert own == 64 * 64 + 300 * 64 + 2 * 64
    assert rules.max_parameters == int(1.2 * own)
    wide = assemble({"main": "a = CONV_31X1 h0 width=8"}, {"zero": 0.0}, (8,))
    with pytest.raises(InvalidProgramError, match="over the cap") as refusal:
        rules.build_graph(wide)
    assert refusal.value.reason == "parameters"


def test_a_mutation_that_leaks_is_undone() -> None:
    # Without its mask this attends to the future; deleting it is one mutation.
    masked = assemble({"main": "s = T_MAT_MUL h0 h0\nm = MASK s\no = MAT_MUL m h0\nr = ADD o h0"}, {"zero": 0.0}, (8,))
    fates = [proposal_of(masked, seed).statistics for seed in range(30)]
    assert sum(fate.get("invalid_causality", 0) for fate in fates) > 0


def test_the_first_of_equal_candidates_stays_recorded() -> None:
    known = SeenPrograms()
    known.add(1, "a", "f")
    known.add(2, "a", "f")
    known.add(3, "b", None)
    assert known.structures == {"a": 1, "b": 3}
    assert known.functions == {"f": 1}
