"""Regularized evolution by ask and tell (Real et al. 2019; Primer, section 2): no clock, no processes, no files.

    ask:  a tournament picks a parent, the parent mutates into a candidate
    tell: the candidate joins the population with its fitness, and the oldest individual dies

The population starts as copies of the seed, which share the mean of the seed's own trials. Candidate k draws from a
generator of its own, derived from (run seed, k), so that a run resumes exactly where it stopped.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np

from ..primitives import DNA
from ..primitives.fingerprint import fingerprint
from ..workers.evaluation import Evaluation
from .candidate import SEED_ID, Candidate, Individual, fitness_of
from .config import RunConfig
from .hurdles import Hurdles
from .population import Population
from .proposal import Known, Proposal, Rules, propose
from .random_programs import propose_random

__all__ = ["Evolution"]

RANDOM_DRAWS = 50
"""Random programs drawn for each mutation that a child of a parent may take: fewer of them are valid."""


class Evolution:
    """The state of a search; replaying a run's candidates and evaluations in order rebuilds it.

    Attributes:
        seed: candidate 0; seed_function: its fingerprint.
        population: who can become a parent.
        hurdles: what a trial must beat to go on.
    """

    def __init__(self, config: RunConfig, run_seed: int, seed_dna: DNA):
        self.config = config
        self.run_seed = run_seed
        self.rules = Rules.of_seed(seed_dna, config.model)
        graph = self.rules.graph_of(seed_dna)
        self.seed = Candidate(SEED_ID, seed_dna, None, (), graph.structure_hash)
        self.population = Population(config.search.population)
        trial, search = config.trial, config.search
        self.hurdles = Hurdles(trial.budget, trial.hurdles, search.hurdle_window, search.hurdle_minimum)
        self._candidates: dict[int, Candidate] = {}
        self._known = Known()
        self._fitness: dict[int, float | None] = {}
        self._seed_fitness: list[float | None] = []
        self._waiting: list[Individual] = []
        self._twins: dict[int, int] = {}
        self.seed_function = fingerprint(graph)
        self.add(self.seed, self.seed_function)

    @property
    def next_id(self) -> int:
        """The number of the next candidate."""
        return len(self._candidates)

    @property
    def seed_trials_left(self) -> int:
        """How many of the seed's own trials have not reported yet."""
        return max(0, self.config.search.seed_trials - len(self._seed_fitness))

    def candidate(self, candidate_id: int) -> Candidate:
        """A candidate by its number."""
        return self._candidates[candidate_id]

    def ask(self) -> tuple[Candidate, Proposal]:
        """The next candidate: a mutated winner of a tournament. It counts as proposed once `add` has it."""
        number = self.next_id
        rng = np.random.default_rng((self.run_seed, 0, number))
        search = self.config.search
        if search.strategy == "random-init":
            return self._drawn(number, rng)
        parent = self._candidates[self._parent(rng)]
        proposal = propose(parent.dna, parent.structure_hash, rng, self.rules, self._known, search.proposals)
        candidate = Candidate(
            number, proposal.dna, parent.id, proposal.mutations, proposal.structure_hash, proposal.same_as
        )
        return candidate, proposal

    def _drawn(self, number: int, rng: np.random.Generator) -> tuple[Candidate, Proposal]:
        """A program without ancestors."""
        limit = RANDOM_DRAWS * self.config.search.proposals
        proposal = propose_random(self.seed.dna, rng, self.rules, self._known, limit)
        identity = (proposal.mutations, proposal.structure_hash, proposal.same_as)
        return Candidate(number, proposal.dna, None, *identity), proposal

    def add(self, candidate: Candidate, function: str | None) -> None:
        """Count a candidate as proposed; one that equals a known candidate joins as soon as that has a fitness."""
        self._candidates[candidate.id] = candidate
        # What equals a twin equals its original, which is the one that gets a fitness.
        original = candidate.id if candidate.same_as is None else candidate.same_as
        self._known.add(original, candidate.structure_hash, function)
        if original == candidate.id:
            return
        if original in self._fitness:
            self._join(Individual(candidate.id, self._fitness[original]))
        else:
            self._twins[candidate.id] = original

    def tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Take in the result of a trial."""
        self.hurdles.record(evaluation.hurdle_losses)
        fitness = fitness_of(evaluation)
        if candidate_id == SEED_ID:
            self._tell_seed(fitness)
            return
        self._fitness[candidate_id] = fitness
        self._join(Individual(candidate_id, fitness))
        self._join_twins_of(candidate_id)

    def _tell_seed(self, fitness: float | None) -> None:
        self._seed_fitness.append(fitness)
        if self.seed_trials_left or SEED_ID in self._fitness:
            return
        numbers = [number for number in self._seed_fitness if number is not None]
        mean = fmean(numbers) if len(numbers) == len(self._seed_fitness) else None
        self._fitness[SEED_ID] = mean
        for _ in range(self.config.search.population):
            self.population.add(Individual(SEED_ID, mean))
        for individual in self._waiting:
            self.population.add(individual)
        self._waiting.clear()
        self._join_twins_of(SEED_ID)

    def _parent(self, rng: np.random.Generator) -> int:
        """Until the seed's trials are in, everybody alive is a copy of the seed."""
        if not len(self.population):
            return SEED_ID
        search = self.config.search
        rivals = 1 if search.strategy == "random" else search.tournament
        return self.population.tournament(rng, rivals).candidate_id

    def _join_twins_of(self, candidate_id: int) -> None:
        for twin in [twin for twin, original in self._twins.items() if original == candidate_id]:
            del self._twins[twin]
            self._join(Individual(twin, self._fitness[candidate_id]))

    def _join(self, individual: Individual) -> None:
        if len(self.population):
            self.population.add(individual)
        else:
            self._waiting.append(individual)
