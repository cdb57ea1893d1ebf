"""Base class of search strategies: candidates by id, known programs, and the trainings of the first programs.

A strategy works by ask and tell: `ask` proposes a candidate, `add` records the proposed candidate, and `tell` records
the result of a trial. A strategy uses no clock, processes or files. The random generator of candidate k is derived from
(run seed, k), so a run resumes exactly where it stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set

import numpy as np

from ...primitives import DNA
from ...primitives.graphs.fingerprint import fingerprint
from ...workers.price_prior import PricePrior
from ...workers.protocol import Evaluation, HurdleThreshold
from ..config import RunConfig
from .candidate import BASELINE_ID, Candidate, Candidates
from .initial_programs import InitialProgram
from .proposals import CandidateRules, Proposal, SeenPrograms
from .vocabulary import read_vocabulary

__all__ = ["SearchStrategy"]


class SearchStrategy(ABC):
    """The state of a search; replaying a run's candidates and evaluations in order rebuilds it.

    Attributes:
        baseline: candidate 0.
        starters: the baseline and the imported initial programs, each with its fingerprint; each is trained several
            times.
        vocabulary: ops and plugin mutations of the search.
        ancestors: ids of the candidates that the search starts from.
    """

    fitness_changes = False
    """Whether a result can change the fitness of other candidates."""

    def __init__(
        self, config: RunConfig, run_seed: int, baseline_dna: DNA, initial_programs: Sequence[InitialProgram] = ()
    ):
        self.config = config
        self.run_seed = run_seed
        self.vocabulary = read_vocabulary(config.search.vocabulary)
        self.rules = CandidateRules.for_baseline(baseline_dna, config.model)
        self.ancestors = tuple(initial_program.candidate_id for initial_program in initial_programs) or (BASELINE_ID,)
        self._candidates = Candidates()
        self._known = SeenPrograms()
        self._starter_trials: dict[int, list[float | None]] = {}
        imported = [program for program in initial_programs if program.candidate_id != BASELINE_ID]
        self.starters = (
            self._starter(BASELINE_ID, baseline_dna),
            *(self._starter(program.candidate_id, program.dna, program.description) for program in imported),
        )
        self.baseline = self.starters[0][0]

    @property
    def next_id(self) -> int:
        """Id of the next candidate. In a repaired run, some lower ids may be missing."""
        return next(reversed(self._candidates), -1) + 1

    @property
    def trials_left(self) -> list[int]:
        """Ids of the starters with trials still to run: the baseline first, then the initial programs in turn."""
        needed, trials = self.config.search.baseline_trials, self._starter_trials
        missing = [(place, number) for number in trials for place in range(len(trials[number]), needed)]
        return [number for _, number in sorted(missing, key=lambda trial: (trial[1] != BASELINE_ID, *trial))]

    @property
    def ready(self) -> bool:
        """Whether a parent is available: the baseline from the start, an initial program after one full training."""
        return bool(self._trained_ancestors())

    def candidate(self, candidate_id: int) -> Candidate:
        """Return a candidate by its id."""
        return self._candidates[candidate_id]

    @abstractmethod
    def ask(self) -> tuple[Candidate, Proposal]:
        """Return the next candidate, which `add` then records. Call this only while `ready`."""

    def add(self, candidate: Candidate, function: str | None, edits: Sequence[int] | None = None) -> None:
        """Record a proposed candidate.

        Args:
            candidate: new candidate.
            function: fingerprint of its program; None if it has none.
            edits: edits of the program (see `edit_model`), for strategies that record them.
        """
        self._candidates.add(candidate)
        # A duplicate of a duplicate equals the original, and only the original is trained.
        self._known.add(candidate.evaluated_id, candidate.structure_hash, function)

    @abstractmethod
    def tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Record the result of a trial."""

    @abstractmethod
    def fitness(self, candidate_id: int) -> float | None:
        """Return the fitness of a candidate; None until all its trials have ended, or if one of them has no loss."""

    @abstractmethod
    def thresholds(self, candidate_id: int) -> tuple[HurdleThreshold, ...]:
        """Return the points at which a trial of the candidate is evaluated, with the score that it must beat there."""

    @property
    def price_prior(self) -> PricePrior | None:
        """Prior of the price of programs that are not trained yet; None if the strategy has no prior."""
        return None

    def next_retest(self, running: Set[int]) -> int | None:
        """Return a candidate to train once more with a fresh random seed; None if none needs it.

        Args:
            running: candidates with a trial in progress.
        """
        return None

    def _starter(self, number: int, dna: DNA, *origin: str) -> tuple[Candidate, str | None]:
        graph, unit = self.rules.fit(dna)
        candidate = Candidate(number, dna, None, origin, graph.structure_hash, unit=unit)
        function = fingerprint(graph)
        self._starter_trials[number] = []
        self.add(candidate, function)
        return candidate, function

    def _child(self, number: int, parent: int | None, proposal: Proposal) -> Candidate:
        identity = (proposal.structure_hash, proposal.same_as, proposal.unit)
        return Candidate(number, proposal.dna, parent, proposal.mutations, *identity)

    def _generator(self) -> np.random.Generator:
        """Return the random generator of the next candidate."""
        return np.random.default_rng((self.run_seed, 0, self.next_id))

    def _trained_ancestors(self) -> list[int]:
        """Return the possible first parents: the baseline, or the initial programs with a full training."""
        if self.ancestors == (BASELINE_ID,):
            return [BASELINE_ID]
        trials = self._starter_trials
        return [each for each in self.ancestors if any(loss is not None for loss in trials[each])]
