"""Regularized evolution's population: who dies, and who wins a tournament."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.search.evolution.candidate import Individual, evaluation_fitness
from primer_search.search.evolution.population import Population
from primer_search.workers.protocol import INFRASTRUCTURE_FAULTS, OUTCOME_ADVICE, Evaluation

FITNESSES = st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=40)


def population_of(fitnesses: list[float | None], size: int) -> Population:
    population = Population(size)
    for number, fitness in enumerate(fitnesses):
        population.add(Individual(number, fitness))
    return population


@given(FITNESSES, st.integers(1, 12))
def test_the_oldest_dies_and_the_size_is_never_exceeded(fitnesses: list[float | None], size: int) -> None:
    population, dead = Population(size), []
    for number, fitness in enumerate(fitnesses):
        died = population.add(Individual(number, fitness))
        assert len(population) <= size
        dead += [died.candidate_id] if died else []
    assert dead == list(range(max(len(fitnesses) - size, 0)))
    assert [member.candidate_id for member in population.members] == list(range(len(dead), len(fitnesses)))


def test_the_best_dies_too_when_it_is_the_oldest() -> None:
    population = population_of([0.1, 9.0, 9.0], size=2)
    assert [member.fitness for member in population.members] == [9.0, 9.0]


@given(FITNESSES.filter(bool), st.integers(0, 2**32))
def test_a_tournament_of_all_is_won_by_the_best_and_among_equals_the_youngest(
    fitnesses: list[float | None], seed: int
) -> None:
    winner = population_of(fitnesses, 100).tournament(np.random.default_rng(seed), 100)
    numbers = [fitness for fitness in fitnesses if fitness is not None]
    best = min(numbers) if numbers else None
    assert winner.fitness == best
    assert winner.candidate_id == max(number for number, fitness in enumerate(fitnesses) if fitness == best)


def test_a_tournament_draws_without_replacement() -> None:
    """Of two, a tournament of two with replacement would let the worse win a quarter of the time."""
    population, rng = population_of([2.0, 1.0], 2), np.random.default_rng(0)
    assert {population.tournament(rng, 2).candidate_id for _ in range(50)} == {1}


def test_a_tournament_of_one_is_a_fair_draw() -> None:
    population, rng = population_of([4.0, 3.0, 2.0, None], 4), np.random.default_rng(0)
    wins = Counter(population.tournament(rng, 1).candidate_id for _ in range(4000))
    # 1000 each, standard deviation 27
    assert all(abs(wins[number] - 1000) < 150 for number in range(4))


def test_larger_tournaments_press_harder() -> None:
    """The best of ten wins a tournament of k with probability k / 10."""
    population, rng = population_of([float(number) for number in range(10)], 10), np.random.default_rng(0)
    for k in (1, 3, 7):
        wins = sum(population.tournament(rng, k).candidate_id == 0 for _ in range(2000))
        assert abs(wins / 2000 - k / 10) < 0.05


def test_the_same_seed_gives_the_same_parents() -> None:
    population = population_of([float(number % 7) for number in range(30)], 30)
    draws = [
        [population.tournament(rng, 5).candidate_id for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3), np.random.default_rng(4))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_tournament_in_an_empty_population_is_an_error() -> None:
    with pytest.raises(ValueError, match="tournament of 5 among 0"):
        Population(3).tournament(np.random.default_rng(0), 5)
    with pytest.raises(ValueError, match="tournament of 0"):
        population_of([1.0], 1).tournament(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Population(0)


@pytest.mark.parametrize("fitness", [math.nan, math.inf, -math.inf])
def test_non_finite_fitness_is_refused(fitness: float) -> None:
    with pytest.raises(ValueError, match="use None"):
        Individual(1, fitness)
    assert evaluation_fitness(Evaluation("ok", loss_nats=fitness)) is None


def test_fitness_is_the_final_loss_or_that_of_the_last_hurdle() -> None:
    assert evaluation_fitness(Evaluation("ok", loss_nats=2.0, hurdle_losses=(4.0, 3.0))) == 2.0
    assert evaluation_fitness(Evaluation("stopped_at_hurdle", hurdle_losses=(4.0, 3.0))) == 3.0


@pytest.mark.parametrize("outcome", sorted(set(OUTCOME_ADVICE) - {"ok", "stopped_at_hurdle"} - INFRASTRUCTURE_FAULTS))
def test_a_failed_candidate_has_no_fitness(outcome: str) -> None:
    assert evaluation_fitness(Evaluation(f"{outcome}:why", loss_nats=1.0, hurdle_losses=(1.0,))) is None


@pytest.mark.parametrize("outcome", sorted(INFRASTRUCTURE_FAULTS))
def test_a_trial_without_a_result_gives_no_fitness(outcome: str) -> None:
    with pytest.raises(ValueError, match="repeat the trial"):
        evaluation_fitness(Evaluation(outcome))
