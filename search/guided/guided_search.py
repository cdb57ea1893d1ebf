"""Guided search: evolution for a few hundred noisy trainings.

    ask:  mostly a mutation of live code (code that the output depends on) of a good parent; sometimes a merge of two
          good programs, or a revert of one edit
    tell: the final loss, or for a stopped training the predicted one, is added to the model of edits

Fitness is the loss at a fixed number of steps plus the price of a slower step (see `measurements`). So a better
estimate of the price changes the rank of a program without another training.

Parents, merges and leaders are chosen by the posterior of `edit_model`, which corrects a lucky training by the results
of related programs. Leaders are trained again with fresh random seeds before they get many children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np

from ...primitives import DNA, InvalidProgramError
from ...workers.price_prior import PricePrior
from ...workers.protocol import Evaluation, HurdleThreshold
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID, Candidate
from ..evolution.initial_programs import InitialProgram
from ..evolution.proposals import Proposal, identify, propose
from ..evolution.search_strategy import SearchStrategy
from .edit_choice import EditChoice, edit_features
from .edit_model import EditModel, Edits, Observation
from .linear_model import Normal
from .live_code import LiveCode
from .live_mutations import mutate_live_code
from .measurements import LARGEST_FITNESS, Measurements
from .recombination import merge_programs
from .stop_rule import MINIMUM_TRAININGS, POINTS, UNSTOPPED_SHARE, stop_thresholds, target_fitness

__all__ = ["GuidedSearch", "Standing"]

EFFECT_SD = 0.1
"""Standard deviation of the effect of one edit, in nats (see `edit_model`). This value, `LEADERS` and `MAX_TRAININGS`
were chosen by replays of whole searches (docs/discovery.md)."""

INTERACTION_SD = 0.02
"""Standard deviation of the interaction of the edits of a program, in nats (see `edit_model`)."""

MERGE_SHARE = 0.2
"""Share of candidates that are merges, as long as some merge is expected to beat the best program."""

REVERT_SHARE = 0.05
"""Share of candidates that undo one edit of a leader."""

MERGE_GAIN = 0.01
"""Nats by which a merge must be expected to be better than the best program; smaller gains are within the noise."""

DRAWS = 16
"""Mutations drawn for a child; `edit_choice` takes one of them."""

UNIFORM_SHARE = 0.25
"""Share of children whose first mutation is taken, regardless of its expected gain."""

LEADERS = 3
"""Number of leaders, the candidates with the best posterior means. They are trained again, and their edits reverted."""

CHILDREN_PER_TRAINING = 4
"""Children of a leader after which it needs another training, up to `MAX_TRAININGS`."""

MAX_TRAININGS = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """Standing of a candidate in the search.

    Attributes:
        candidate_id: candidate.
        posterior: posterior of the fitness relative to the baseline, in nats per token.
        trainings: number of complete trainings.
    """

    candidate_id: int
    posterior: Normal
    trainings: int


class GuidedSearch(SearchStrategy):
    """Evolution by posterior means, with merges, reverts, repeated trainings and hurdles that predict the final loss.

    Attributes:
        measurements: results of all trials.
    """

    fitness_changes = True  # a result can change all prices

    def __init__(
        self, config: RunConfig, run_seed: int, baseline_dna: DNA, initial_programs: Sequence[InitialProgram] = ()
    ):
        self.measurements = Measurements(POINTS)
        self._edits: dict[int, Edits] = {}
        self._by_edits: dict[Edits, int] = {}  # the first candidate with exactly these edits
        self._model = EditModel([], EFFECT_SD, INTERACTION_SD)
        self._children: Counter[int] = Counter()
        self._mutated: dict[int, tuple[int, frozenset[str]]] = {}  # parents and features of mutated children
        self._failed_merges: set[tuple[int, int, int]] = set()
        self._standings: dict[int, Standing] | None = None
        self._choice: EditChoice | None = None
        super().__init__(config, run_seed, baseline_dna, initial_programs)

    # --- ask, add and tell ---

    def ask(self) -> tuple[Candidate, Proposal]:
        """Return the next candidate: a merge, a revert, or a mutation of a good parent."""
        number, rng = self.next_id, self._generator()
        kind = rng.random()
        made = None
        if self.config.search.strategy == "guided":
            if kind < MERGE_SHARE:
                made = self._merge()
            elif kind < MERGE_SHARE + REVERT_SHARE:
                made = self._revert(rng)
        parent, proposal = made or self._mutate(rng)
        return self._child(number, parent, proposal), proposal

    def add(self, candidate: Candidate, function: str | None, edits: Sequence[int] | None = None) -> None:
        """Record a proposed candidate. A mutated child has the edits of its parent, and one of its own."""
        super().add(candidate, function)
        if edits is not None:
            self._edits[candidate.id] = frozenset(edits)
        elif candidate.id == BASELINE_ID:
            self._edits[candidate.id] = frozenset()
        else:
            inherited = frozenset() if candidate.parent is None else self._edits[candidate.parent]
            self._edits[candidate.id] = inherited | {candidate.id}
            if candidate.parent is not None:
                features = edit_features(self._candidates[candidate.parent].dna, candidate.dna)
                self._mutated[candidate.id] = candidate.parent, features
        self._by_edits.setdefault(self._edits[candidate.id], candidate.id)
        if candidate.parent is not None:
            self._children[candidate.parent] += 1

    def tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        """Record the result of a trial."""
        self._standings = self._choice = None
        self.measurements.record(candidate_id, evaluation)
        if candidate_id in self._starter_trials:
            self._starter_trials[candidate_id].append(evaluation.loss_nats if evaluation.kind == "ok" else None)

    def fitness(self, candidate_id: int) -> float | None:
        """Return the mean loss plus the price of a step, in nats per token; None without a complete training."""
        losses = self.measurements.losses(candidate_id)
        return fmean(losses) + self.measurements.priced(candidate_id).mean if losses else None

    # --- trainings: where they stop, and which candidates are trained again ---

    def thresholds(self, candidate_id: int) -> tuple[HurdleThreshold, ...]:
        """Return the evaluation points of a trial, with the scores above which it stops (see `stop_rule`).

        Trials of starters, retrainings, and a random share of all other trials are never stopped.
        """
        measured, target = self.measurements, None
        if measured.baseline.loss_nats is not None and self._may_stop(candidate_id):
            posteriors = [each.posterior.mean for each in self.standings().values()]
            target = target_fitness(measured.baseline.loss_nats, posteriors)
        return stop_thresholds(self.config.trial.budget, target, measured.predictor, measured.baseline.slope)

    @property
    def price_prior(self) -> PricePrior | None:
        """Prior of prices by operation counts, fitted to this run; None before the first training of the baseline."""
        return self.measurements.price.prior if self.measurements.price is not None else None

    def next_retest(self, running: Set[int]) -> int | None:
        """Return the first leader that has fewer trainings than it needs for its rank and children, or None."""
        leaders = [each for each in self.ranking() if each.candidate_id not in self._starter_trials][:LEADERS]
        for place, each in enumerate(leaders):
            children = self._children[each.candidate_id] + (CHILDREN_PER_TRAINING if place == 0 else 0)
            needed = min(1 + children // CHILDREN_PER_TRAINING, MAX_TRAININGS)
            if each.trainings < needed and each.candidate_id not in running and each.posterior.mean < 0:
                return each.candidate_id
        return None

    def ranking(self) -> list[Standing]:
        """Return the candidates with a complete training, the best posterior mean first."""
        trained = [each for each in self.standings().values() if each.trainings]
        return sorted(trained, key=lambda each: (each.posterior.mean, each.candidate_id))

    def standings(self) -> Mapping[int, Standing]:
        """Return the standing of every candidate with a result, by id."""
        if self._standings is None:
            measured = {number: self.measurements.fitness(number) for number in self.measurements.candidates}
            known = {number: fitness for number, fitness in measured.items() if fitness is not None}
            observations = (
                Observation(self._edits[number], min(fitness.mean, LARGEST_FITNESS), fitness.sd**2)
                for number, fitness in known.items()
                if number != BASELINE_ID
            )
            self._model = EditModel(observations, EFFECT_SD, INTERACTION_SD)
            posteriors = self._model.posteriors([self._edits[number] for number in known])
            self._standings = {
                number: Standing(number, posterior, len(self.measurements.losses(number)))
                for number, posterior in zip(known, posteriors, strict=True)
            }
        return self._standings

    # --- proposals ---

    def _mutate(self, rng: np.random.Generator) -> tuple[int, Proposal]:
        parent = self._parent(rng)
        origin = self._candidates[parent]
        choice = None if rng.random() < UNIFORM_SHARE else self._edit_choice()

        code = LiveCode(origin.dna)  # all mutations are of the parent, because `accumulate` is False

        def mutation(dna: DNA, rng: np.random.Generator) -> tuple[DNA, str]:
            if choice is None:
                return mutate_live_code(code, rng, self.vocabulary)
            drawn = [mutate_live_code(code, rng, self.vocabulary) for _ in range(DRAWS)]
            return drawn[choice.choose([edit_features(dna, child) for child, _ in drawn], rng)]

        limit = self.config.search.proposals
        proposal = propose(origin, rng, self.rules, self._known, limit, mutation, accumulate=False)
        return parent, proposal

    def _edit_choice(self) -> EditChoice:
        """Return the model of gains, fitted to all mutated children with a result; kept until the next result."""
        if self._choice is not None:
            return self._choice
        standings = self.standings()
        features: list[frozenset[str]] = []
        gains: list[float] = []
        for number, (origin, own) in self._mutated.items():
            child, parent = standings.get(number), standings.get(origin)
            if child is not None and parent is not None:
                features.append(own)
                gains.append(parent.posterior.mean - child.posterior.mean)
        self._choice = EditChoice(features, gains)
        return self._choice

    def _parent(self, rng: np.random.Generator) -> int:
        """Return a parent: of a few random members of the archive, the one with the best draw from its posterior."""
        archive = self._archive()
        if not archive:
            trained = self._trained_ancestors()
            return trained[int(rng.integers(len(trained)))]
        rivals = 1 if self.config.search.strategy == "guided-random" else self.config.search.tournament
        drawn = [archive[int(place)] for place in rng.choice(len(archive), min(rivals, len(archive)), replace=False)]
        draws = [rng.normal(each.posterior.mean, each.posterior.sd) for each in drawn]
        return drawn[int(np.argmin(draws))].candidate_id

    def _archive(self) -> list[Standing]:
        """Return the candidates eligible as parents: the best by posterior mean; all if parents are random."""
        ranking = self.ranking()
        return ranking if self.config.search.strategy == "guided-random" else ranking[: self.config.search.population]

    def _merge(self) -> tuple[int, Proposal] | None:
        """Return a valid merge of two archive members with the lowest posterior mean, if that mean is low enough."""
        archive = [each.candidate_id for each in self._archive()]
        pairs: dict[Edits, tuple[int, int]] = {}
        for one, other in combinations(archive, 2):
            first, second = self._edits[one], self._edits[other]
            if not (first <= second or second <= first) and first | second not in self._by_edits:
                pairs.setdefault(first | second, (one, other))
        if not pairs:
            return None
        best = self.ranking()[0].posterior.mean
        predicted = self._model.posteriors(list(pairs))
        for posterior, edits in sorted(zip(predicted, pairs, strict=True), key=lambda pair: pair[0].mean):
            if posterior.mean > best - MERGE_GAIN:
                return None
            one, other = pairs[edits]
            ancestor = self._by_edits.get(self._edits[one] & self._edits[other])
            if ancestor is None or (ancestor, one, other) in self._failed_merges:
                continue
            dna = merge_programs(self._candidates[ancestor].dna, self._candidates[one].dna, self._candidates[other].dna)
            proposal = self._checked(dna, f"Merge with #{other}", edits, other)
            if proposal is not None:
                return one, proposal
            self._failed_merges.add((ancestor, one, other))  # only to save time: it would fail again
        return None

    def _revert(self, rng: np.random.Generator) -> tuple[int, Proposal] | None:
        """Return a leader without one of its edits: a merge of the leader with the program before that edit."""
        leaders = [each.candidate_id for each in self._archive()[:LEADERS] if len(self._edits[each.candidate_id]) > 1]
        if not leaders:
            return None
        leader = leaders[int(rng.integers(len(leaders)))]
        for edit in rng.permutation(sorted(self._edits[leader])):
            source = self._candidates[int(edit)]
            remaining = self._edits[leader] - {int(edit)}
            if source.parent is None or remaining in self._by_edits:
                continue
            before, after = self._candidates[source.parent].dna, self._candidates[leader].dna
            dna = merge_programs(source.dna, before, after)
            proposal = self._checked(dna, f"Revert of the edit of #{edit}", remaining)
            if proposal is not None:
                return leader, proposal
        return None

    def _checked(
        self, dna: DNA | None, description: str, edits: Edits, merged_with: int | None = None
    ) -> Proposal | None:
        """Return the proposal of a program; None if the program is not valid or not new."""
        if dna is None:
            return None
        try:
            identity = identify(dna, self.rules, self._known)
        except InvalidProgramError:
            return None
        if identity.same_as is not None:
            return None
        return Proposal(
            dna,
            (description,),
            identity.structure_hash,
            identity.function,
            same_as=None,
            unit=identity.unit,
            statistics={},
            edits=tuple(sorted(edits)),
            merged_with=merged_with,
        )

    def _may_stop(self, candidate_id: int) -> bool:
        if self.measurements.predictor.trainings < MINIMUM_TRAININGS:
            return False
        rng = np.random.default_rng((self.run_seed, 2, candidate_id))
        trains_anyway = candidate_id in self._starter_trials or bool(self.measurements.losses(candidate_id))
        return not trains_anyway and rng.random() >= UNSTOPPED_SHARE
