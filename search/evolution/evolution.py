"""Regularized evolution (Real et al. 2019; Primer, section 2): the paper's algorithm.

    ask:  a tournament picks a parent, the parent mutates into a candidate
    tell: the candidate joins the population with its fitness, and the oldest individual is removed

The population starts as copies of the baseline, or of imported initial programs in equal parts. The fitness of a copy
is the mean loss of several trainings. Without this, one lucky training of an initial program would win nearly all
tournaments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np

from ...primitives import DNA
from ...workers.protocol import Evaluation, HurdleThreshold
from ..config import RunConfig
from .candidate import Candidate, Individual, evaluation_fitness
from .hurdles import Hurdles
from .initial_programs import InitialProgram
from .paper_mutations import mutate
from .population import Population
from .proposals import Proposal, propose
from .random_programs import propose_random
from .search_strategy import SearchStrategy

__all__ = ["Evolution"]

RANDOM_DRAWS = 50
"""Random programs that may be drawn for each mutation that `search.proposals` allows: few random programs are valid."""


class Evolution(SearchStrategy):
    """Regularized evolution.

    Attributes:
        population: candidates eligible as parents.
        hurdles: losses that a trial must beat to continue.
    """

    def __init__(
        self, config: RunConfig, run_seed: int, baseline_dna: DNA, initial_programs: Sequence[InitialProgram] = ()
    ):
        trial, search = config.trial, config.search
        self.population = Population(search.population)
        self.hurdles = Hurdles(trial.budget, trial.hurdles, search.hurdle_window, search.hurdle_minimum)
        self._fitness: dict[int, float | None] = {}
        self._waiting: list[Individual] = []
        self._duplicates: defaultdict[int, list[int]] = defaultdict(list)  # by original, while it has no result
        super().__init__(config, run_seed, baseline_dna, initial_programs)

    @property
    def ready(self) -> bool:
        """Whether a parent is available."""
        return bool(len(self.population)) or super().ready

    def ask(self) -> tuple[Candidate, Proposal]:
        """Return the next candidate: a mutation of a tournament's winner, or a random program."""
        number, rng, search = self.next_id, self._generator(), self.config.search
        if search.strategy == "random-init":
            limit = RANDOM_DRAWS * search.proposals
            words = self.vocabulary
            parent, proposal = None, propose_random(self.baseline.dna, rng, self.rules, self._known, limit, words)
        else:
            parent = self._parent(rng)
            mutation = partial(mutate, vocabulary=self.vocabulary)
            proposal = propose(self._candidates[parent], rng, self.rules, self._known, search.proposals, mutation)
        return self._child(number, parent, proposal), proposal

    def add(self, candidate: Candidate, function: str | None, edits: Sequence[int] | None = None) -> None:
        """Record a proposed candidate. A duplicate joins the population with the fitness of the original."""
        super().add(candidate, function)
        original = candidate.evaluated_id
        if original == candidate.id:
            return
        if original in self._fitness:
            self._join(Individual(candidate.id, self._fitness[original]))
        else:
            self._duplicates[original].append(candidate.id)

    def tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Record the result of a trial; the candidate joins the population."""
        self.hurdles.record(evaluation.hurdle_losses)
        fitness = evaluation_fitness(evaluation)
        if candidate_id in self._starter_trials:
            self._tell_starter(candidate_id, fitness)
            return
        self._fitness[candidate_id] = fitness
        self._join(Individual(candidate_id, fitness))
        self._join_duplicates_of(candidate_id)

    def fitness(self, candidate_id: int) -> float | None:
        """Return the fitness of a candidate; None until all its trials have ended, or if one of them has no loss."""
        return self._fitness.get(candidate_id)

    def thresholds(self, candidate_id: int) -> tuple[HurdleThreshold, ...]:
        """Return the hurdles of a trial. Trials of starters are evaluated at the hurdles, but never stopped there."""
        thresholds = self.hurdles.thresholds()
        if candidate_id not in self._starter_trials:
            return thresholds
        return tuple(replace(threshold, loss_nats=None) for threshold in thresholds)

    def _tell_starter(self, candidate_id: int, fitness: float | None) -> None:
        trials = self._starter_trials[candidate_id]
        trials.append(fitness)
        if len(trials) != self.config.search.baseline_trials:
            return  # more trials must follow; or this is a later control trial, which does not change the fitness
        losses = [loss for loss in trials if loss is not None]
        self._fitness[candidate_id] = fmean(losses) if len(losses) == len(trials) else None
        self._join_duplicates_of(candidate_id)
        if not self.trials_left:
            self._fill_population()

    def _fill_population(self) -> None:
        """Fill the population with copies of the ancestors in equal parts, then add the candidates that waited."""
        for place in range(self.config.search.population):
            ancestor = self.ancestors[place % len(self.ancestors)]
            self.population.add(Individual(ancestor, self._fitness[ancestor]))
        for individual in self._waiting:
            self.population.add(individual)
        self._waiting.clear()

    def _parent(self, rng: np.random.Generator) -> int:
        """Return the id of the parent; until the population is filled, a random trained ancestor."""
        if not len(self.population):
            trained = self._trained_ancestors()
            return trained[0] if len(trained) == 1 else trained[int(rng.integers(len(trained)))]
        search = self.config.search
        rivals = 1 if search.strategy == "random" else search.tournament
        return self.population.tournament(rng, rivals).candidate_id

    def _join_duplicates_of(self, candidate_id: int) -> None:
        for duplicate in self._duplicates.pop(candidate_id, ()):
            self._join(Individual(duplicate, self._fitness[candidate_id]))

    def _join(self, individual: Individual) -> None:
        if len(self.population):
            self.population.add(individual)
        else:
            self._waiting.append(individual)
