"""Regularized evolution by ask and tell (Real et al. 2019; Primer, section 2): no clock, no processes, no files.

    ask:  a tournament picks a parent, the parent mutates into a candidate
    tell: the candidate joins the population with its fitness, and the oldest individual dies

The population starts as copies of the baseline, or of imported initial programs in equal parts. The fitness of a copy
is the mean loss of several trainings. Without this, one lucky training of an initial program would win nearly all
tournaments. Candidate k draws from a random generator derived from (run seed, k), so a run resumes exactly where it
stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ...primitives import DNA
from ...primitives.fingerprint import fingerprint
from ...workers.protocol import Evaluation
from ..config import RunConfig
from .candidate import BASELINE_ID, Candidate, Individual, evaluation_fitness
from .hurdles import Hurdles
from .initial_programs import InitialProgram
from .population import Population
from .proposals import CandidateRules, Proposal, SeenPrograms, propose
from .random_programs import propose_random

__all__ = ["Evolution"]

RANDOM_DRAWS = 50
"""Random programs drawn per mutation that a child may take: a smaller share of them is valid."""


class Evolution:
    """The state of a search; replaying a run's candidates and evaluations in order rebuilds it.

    Attributes:
        baseline: candidate 0.
        starters: the baseline and the imported initial programs, each with its fingerprint; each is trained several
            times.
        ancestors: ids of the candidates that the population starts as copies of.
        population: candidates eligible as parents.
        hurdles: losses that a trial must beat to continue.
    """

    def __init__(
        self, config: RunConfig, run_seed: int, baseline_dna: DNA, initial_programs: Sequence[InitialProgram] = ()
    ):
        self.config = config
        self.run_seed = run_seed
        self.rules = CandidateRules.for_baseline(baseline_dna, config.model)
        self.ancestors = tuple(initial_program.candidate_id for initial_program in initial_programs) or (BASELINE_ID,)
        self.population = Population(config.search.population)
        trial, search = config.trial, config.search
        self.hurdles = Hurdles(trial.budget, trial.hurdles, search.hurdle_window, search.hurdle_minimum)
        self._candidates: dict[int, Candidate] = {}
        self._known = SeenPrograms()
        self._fitness: dict[int, float | None] = {}
        self._waiting: list[Individual] = []
        self._twins: dict[int, int] = {}
        self._trials: dict[int, list[float | None]] = {}
        imported = [
            initial_program for initial_program in initial_programs if initial_program.candidate_id != BASELINE_ID
        ]
        self.starters = (
            self._starter(BASELINE_ID, baseline_dna),
            *(
                self._starter(initial_program.candidate_id, initial_program.dna, initial_program.description)
                for initial_program in imported
            ),
        )
        self.baseline = self.starters[0][0]

    @property
    def next_id(self) -> int:
        """Id of the next candidate."""
        return len(self._candidates)

    @property
    def trials_left(self) -> list[int]:
        """Ids of the starters with trials still to run: the baseline first, then the initial programs in turn."""
        each = self.config.search.baseline_trials
        missing = [(place, number) for number in self._trials for place in range(len(self._trials[number]), each)]
        return [number for _, number in sorted(missing, key=lambda trial: (trial[1] != BASELINE_ID, *trial))]

    @property
    def ready(self) -> bool:
        """Whether a parent is available: the baseline from the start, an initial program after one full training."""
        return bool(len(self.population) or self._trained())

    def candidate(self, candidate_id: int) -> Candidate:
        """Return a candidate by its id."""
        return self._candidates[candidate_id]

    def ask(self) -> tuple[Candidate, Proposal]:
        """Return the next candidate, a mutation of a tournament's winner; `add` counts it as proposed.

        Call it only while `ready`.
        """
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
        """Return a random program, which has no parent."""
        limit = RANDOM_DRAWS * self.config.search.proposals
        proposal = propose_random(self.baseline.dna, rng, self.rules, self._known, limit)
        identity = (proposal.mutations, proposal.structure_hash, proposal.same_as)
        return Candidate(number, proposal.dna, None, *identity), proposal

    def add(self, candidate: Candidate, function: str | None) -> None:
        """Count a candidate as proposed; one equal to a known candidate joins the population with its fitness."""
        self._candidates[candidate.id] = candidate
        # A twin of a twin equals the original, and only the original gets a fitness.
        original = candidate.id if candidate.same_as is None else candidate.same_as
        self._known.add(original, candidate.structure_hash, function)
        if original == candidate.id:
            return
        if original in self._fitness:
            self._join(Individual(candidate.id, self._fitness[original]))
        else:
            self._twins[candidate.id] = original

    def tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Record the result of a trial."""
        self.hurdles.record(evaluation.hurdle_losses)
        fitness = evaluation_fitness(evaluation)
        if candidate_id in self._trials:
            self._tell_starter(candidate_id, fitness)
            return
        self._fitness[candidate_id] = fitness
        self._join(Individual(candidate_id, fitness))
        self._join_twins_of(candidate_id)

    def fitness(self, candidate_id: int) -> float | None:
        """Return the fitness of a candidate; None until all its trials have ended, or if one of them has no loss."""
        return self._fitness.get(candidate_id)

    def _starter(self, number: int, dna: DNA, *origin: str) -> tuple[Candidate, str | None]:
        graph = self.rules.build_graph(dna)
        candidate, function = Candidate(number, dna, None, origin, graph.structure_hash), fingerprint(graph)
        self._trials[number] = []
        self.add(candidate, function)
        return candidate, function

    def _tell_starter(self, candidate_id: int, fitness: float | None) -> None:
        trials = self._trials[candidate_id]
        trials.append(fitness)
        if len(trials) != self.config.search.baseline_trials:
            return  # later trials are controls, which do not change its fitness
        numbers = [number for number in trials if number is not None]
        self._fitness[candidate_id] = fmean(numbers) if len(numbers) == len(trials) else None
        self._join_twins_of(candidate_id)
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

    def _trained(self) -> list[int]:
        """Return the possible parents before the population is filled: the baseline, or trained initial programs."""
        if self.ancestors == (BASELINE_ID,):
            return [BASELINE_ID]
        return [each for each in self.ancestors if any(loss is not None for loss in self._trials[each])]

    def _parent(self, rng: np.random.Generator) -> int:
        """Return the id of the parent; until the population is filled, that of a random trained ancestor."""
        if not len(self.population):
            trained = self._trained()
            return trained[0] if len(trained) == 1 else trained[int(rng.integers(len(trained)))]
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
