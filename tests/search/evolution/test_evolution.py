"""Regularized evolution by ask and tell, with evaluations that the test makes up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from primer_search.primitives.programs.program import DNA
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate, Individual
from primer_search.search.evolution.evolution import Evolution
from primer_search.tests.support.tiny_runs import BASELINE, CONFIG
from primer_search.workers.protocol import Evaluation


def evolution(run_seed: int = 0, **search: Any) -> Evolution:
    return Evolution(replace(CONFIG, search=replace(CONFIG.search, **search)), run_seed, BASELINE)


def result(loss: float) -> Evaluation:
    return Evaluation("ok", loss_nats=loss, hurdle_losses=(loss + 1, loss + 0.5))


def fault() -> Evaluation:
    return Evaluation("non_finite", "it blew up")


def begun(**search: Any) -> Evolution:
    """An evolution whose seed has been trained."""
    state = evolution(**search)
    for _ in range(state.config.search.baseline_trials):
        state.tell(BASELINE_ID, result(5.0))
    return state


def propose(state: Evolution) -> Candidate:
    candidate, proposal = state.ask()
    state.add(candidate, proposal.function)
    return candidate


def twin_of(state: Evolution, original: int, dna: DNA = BASELINE, structure: str = "twin") -> Candidate:
    twin = Candidate(state.next_id, dna, 0, ("silent",), structure, original)
    state.add(twin, None)
    return twin


def ids(state: Evolution) -> list[int]:
    return [individual.candidate_id for individual in state.population.members]


def test_the_population_starts_as_copies_of_the_baseline_once_all_its_trials_are_in() -> None:
    state = evolution()
    state.tell(BASELINE_ID, result(4.0))
    assert state.trials_left == [BASELINE_ID] and len(state.population) == 0
    state.tell(BASELINE_ID, result(6.0))
    assert state.trials_left == []
    assert state.population.members == (Individual(BASELINE_ID, 5.0),) * 4


def test_before_the_baselines_trials_are_in_children_are_the_baselines_and_wait() -> None:
    state = evolution()
    first, second = propose(state), propose(state)
    assert (first.id, second.id) == (1, 2)
    assert first.parent == second.parent == BASELINE_ID
    state.tell(second.id, result(3.0))
    assert len(state.population) == 0
    state.tell(BASELINE_ID, result(5.0))
    state.tell(BASELINE_ID, result(5.0))
    assert ids(state) == [0, 0, 0, 2]
    state.tell(first.id, result(4.0))
    assert ids(state) == [0, 0, 2, 1]


def test_the_oldest_dies_however_good_it_is() -> None:
    state = begun()
    best = propose(state)
    state.tell(best.id, result(1.0))
    for _ in range(4):
        assert best.id in ids(state)
        state.tell(propose(state).id, result(9.0))
    assert best.id not in ids(state)
    assert len(state.population) == 4


def test_a_baseline_that_fails_once_has_no_fitness_and_the_search_continues() -> None:
    state = evolution()
    state.tell(BASELINE_ID, result(4.0))
    state.tell(BASELINE_ID, fault())
    assert state.population.members == (Individual(BASELINE_ID, None),) * 4
    assert propose(state).parent == BASELINE_ID


def test_a_candidates_fault_ranks_after_every_number() -> None:
    state = begun(tournament=4)
    failed, poor = propose(state), propose(state)
    state.tell(failed.id, fault())
    state.tell(poor.id, result(1e9))
    for _ in range(2):
        state.tell(propose(state).id, fault())
    assert Individual(failed.id, None) in state.population.members
    for _ in range(5):
        assert state.ask()[0].parent == poor.id


def test_a_trial_stopped_at_a_hurdle_has_the_loss_of_its_last_hurdle() -> None:
    state = begun()
    stopped = propose(state)
    state.tell(stopped.id, Evaluation("stopped_at_hurdle", "worse", hurdle_losses=(7.0, 6.5)))
    assert state.population.members[-1] == Individual(stopped.id, 6.5)


def test_hurdles_record_the_losses_of_every_trial_the_baseline_included() -> None:
    state = begun()
    assert [hurdle.loss_nats for hurdle in state.hurdles.thresholds()] == [None, None]
    state.tell(propose(state).id, Evaluation("stopped_at_hurdle", "worse", hurdle_losses=(8.0,)))
    assert [hurdle.loss_nats for hurdle in state.hurdles.thresholds()] == [6.0, None]


def test_a_twin_joins_at_once_if_its_original_has_a_fitness() -> None:
    state = begun()
    original = propose(state)
    state.tell(original.id, result(4.5))
    twin = twin_of(state, original.id)
    assert state.population.members[-1] == Individual(twin.id, 4.5)


def test_a_twin_joins_with_its_original_and_after_it() -> None:
    state = begun()
    original = propose(state)
    twins = [twin_of(state, original.id, structure=f"twin {number}") for number in range(2)]
    assert ids(state) == [0, 0, 0, 0]
    state.tell(original.id, result(4.5))
    assert ids(state) == [0, original.id, twins[0].id, twins[1].id]
    assert {individual.fitness for individual in state.population.members[1:]} == {4.5}


def test_a_twin_of_the_baseline_that_came_before_the_baselines_fitness_joins_with_it() -> None:
    state = evolution()
    twin = twin_of(state, BASELINE_ID)
    for _ in range(2):
        state.tell(BASELINE_ID, result(5.0))
    assert ids(state) == [0, 0, 0, twin.id]
    assert state.population.members[-1].fitness == 5.0


@pytest.mark.parametrize("limit", [1, 2])
def test_every_proposed_candidate_joins_the_population_even_with_few_attempts(limit: int) -> None:
    """Twins, twins of twins and twins of what is still in training: none waits for ever."""
    state = evolution(proposals=limit, population=500)
    proposed: list[Candidate] = []
    for turn in range(60):
        proposed.append(propose(state))
        if turn == 10:
            state.tell(BASELINE_ID, result(5.0))
            state.tell(BASELINE_ID, result(5.0))
        # Results come late, in bunches, the youngest first.
        if turn % 5 == 4:
            for candidate in reversed([one for one in proposed[turn - 4 :] if one.same_as is None]):
                state.tell(candidate.id, result(5.0 - 0.01 * candidate.id))
    members = {individual.candidate_id for individual in state.population.members}
    twins = [candidate for candidate in proposed if candidate.same_as is not None]
    assert len(twins) >= 5
    assert {candidate.id for candidate in proposed} <= members
    fitness = {individual.candidate_id: individual.fitness for individual in state.population.members}
    for twin in twins:
        assert twin.same_as is not None
        assert state.candidate(twin.same_as).same_as is None
        assert fitness[twin.id] == fitness[twin.same_as]


def losses_of(dna: DNA, number: int) -> Evaluation:
    """Made-up losses, and a fault now and then."""
    rng = np.random.default_rng([len(dna_to_json(dna)), number])
    return fault() if rng.uniform() < 0.2 else result(float(rng.uniform(3, 6)))


def test_asking_is_repeatable_and_changes_nothing() -> None:
    state = begun()
    first = state.ask()
    assert state.ask() == first
    assert state.next_id == 1
    assert begun().ask() == first
    other = evolution(run_seed=1)
    assert other.ask()[0].dna != first[0].dna


def test_a_replay_of_the_same_events_gives_the_same_next_child() -> None:
    state = evolution(proposals=3)
    events: list[tuple[str, int]] = []
    pending: list[int] = [BASELINE_ID, BASELINE_ID]
    added: dict[int, tuple[Candidate, str | None]] = {}
    for turn in range(20):
        candidate, proposal = state.ask()
        state.add(candidate, proposal.function)
        added[candidate.id] = (candidate, proposal.function)
        events.append(("proposed", candidate.id))
        if candidate.same_as is None:
            pending.append(candidate.id)
        if turn % 2 and pending:
            number = pending.pop(turn % len(pending))
            state.tell(number, losses_of(state.candidate(number).dna, number))
            events.append(("evaluated", number))

    again = evolution(proposals=3)
    for kind, number in events:
        if kind == "proposed":
            again.add(*added[number])
        else:
            again.tell(number, losses_of(again.candidate(number).dna, number))
    assert again.population.members == state.population.members
    assert again.hurdles.thresholds() == state.hurdles.thresholds()
    assert again.ask() == state.ask()


def test_without_selection_the_worst_become_parents_as_often_as_the_best() -> None:
    def parents(strategy: str) -> list[int | None]:
        state = begun(strategy=strategy, population=4, tournament=4)
        for loss in (1.0, 9.0, 9.0, 9.0):
            state.tell(propose(state).id, result(loss))
        return [propose(state).parent for _ in range(30)]

    selected, unselected = parents("evolution"), parents("random")
    best = selected[0]
    assert selected.count(best) == 30
    assert 2 < unselected.count(best) < 16
    assert len(set(unselected)) == 4


def test_random_programs_have_no_parent_and_join_the_population() -> None:
    state = begun(strategy="random-init")
    candidate = propose(state)
    assert candidate.parent is None
    state.tell(candidate.id, result(4.0))
    assert candidate.id in ids(state)


def test_controls_do_not_change_the_fitness_of_the_baseline() -> None:
    state = begun()
    before = state.population.members
    state.tell(BASELINE_ID, result(9.0))
    assert state.population.members == before
