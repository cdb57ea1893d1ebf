"""Replay of rules that select parents, at equal numbers of trainings, in the landscape of the tape.

A rule spends a number of trainings on mutations, merges and repeated trainings, and names its best program, which is
judged by its true loss. Trainings have the noise between random seeds.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from primer_search.benchmarks.replay_data import NOISE_SD
from primer_search.benchmarks.replay_landscape import Landscape
from primer_search.search.guided.edit_model import EditModel, Edits, Observation
from primer_search.search.guided.guided_search import (
    CHILDREN_PER_TRAINING,
    EFFECT_SD,
    INTERACTION_SD,
    LEADERS,
    MAX_TRAININGS,
)

__all__ = ["SELECTIONS", "Selection", "SelectionRow", "replay_selection", "selection_rows"]

SIZE = 20
"""Programs in the population or archive."""

RIVALS = 5
"""Programs in a tournament."""

REFIT = 10
"""Trainings after which the model of edits is fitted again; plain losses rank the archive after every training."""


PAIRS = 10
"""Pairs of parents compared for a merge; the pair with the lowest posterior mean is merged."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A rule that selects parents.

    Attributes:
        name: what it does.
        ageing: the population drops its oldest program, in place of its worst.
        model: programs are ranked by posteriors of the model of edits, in place of their mean loss.
        repeats: leaders are trained again.
        merges: share of children that are merges.
        ceiling: loss relative to the baseline at which the model of edits cuts worse ones.
    """

    name: str
    ageing: bool = False
    model: bool = False
    repeats: bool = False
    merges: float = 0.0
    ceiling: float = np.inf


@dataclass(frozen=True, slots=True)
class SelectionRow:
    """Results of a rule.

    Attributes:
        selection: what the rule does.
        gain: mean true gain of the named program over the baseline, in nats.
        sd: standard deviation of the gain between replays.
        believed: mean gain that the rule itself believes in.
        better: share of replays in which it names a truly better program than the first rule.
    """

    selection: str
    gain: float
    sd: float
    believed: float
    better: float


SELECTIONS = (
    Selection("population with ageing, plain loss", ageing=True),
    Selection("archive, plain loss"),
    Selection("archive, model of edits", model=True),
    Selection("archive, model of edits, repeats", model=True, repeats=True),
    Selection("archive, model of edits, 20% merges", model=True, merges=0.2),
    Selection("archive, model of edits, repeats, 20% merges", model=True, repeats=True, merges=0.2),
    Selection("archive, model cut at 0.1, repeats", model=True, repeats=True, ceiling=0.1),
    Selection("archive, model cut at 0.1, repeats, 20% merges", model=True, repeats=True, merges=0.2, ceiling=0.1),
)
"""Rules to compare; the first is the paper's."""


def selection_rows(landscape: Landscape, trainings: int, replays: int, seed: int) -> list[SelectionRow]:
    """Replay all rules; each replay has its own bootstrap sample of the landscape."""
    results = np.array([
        [replay_selection(rule, landscape, trainings, (seed, replay)) for replay in range(replays)]
        for rule in SELECTIONS
    ])  # fmt: skip
    rows = []
    for rule, (gains, believed) in zip(SELECTIONS, results.transpose(0, 2, 1), strict=True):
        better = float(np.mean(gains > results[0, :, 0]))
        rows.append(SelectionRow(rule.name, float(gains.mean()), float(gains.std()), float(believed.mean()), better))
    return rows


def replay_selection(
    rule: Selection, landscape: Landscape, trainings: int, seed: tuple[int, int]
) -> tuple[float, float]:
    """Return the true gain of the program that a rule names, and the gain that it believes in."""
    rng = np.random.default_rng(seed)
    search = _Search(rule, landscape.resampled(rng), rng)
    for training in range(trainings):
        if training % REFIT == 0 or not rule.model:
            search.refit()
        search.train(search.repeat() or search.merge() or search.mutate())
    search.refit()
    named = min(search.believed, key=search.believed.__getitem__, default=frozenset())
    return -search.true[named], -search.believed.get(named, 0.0)


class _Search:
    """One replay. Programs are sets of edits; losses are relative to the baseline, whose loss is known."""

    def __init__(self, rule: Selection, landscape: Landscape, rng: np.random.Generator):
        self.rule, self.landscape, self.rng = rule, landscape, rng
        self.true: dict[Edits, float] = {frozenset(): 0.0}
        self.misses: dict[Edits, float] = {frozenset(): 0.0}
        self.losses: defaultdict[Edits, list[float]] = defaultdict(list)
        self.children: defaultdict[Edits, int] = defaultdict(int)
        self.believed: dict[Edits, float] = {}
        self.sds: dict[Edits, float] = {}
        self.effects: list[float] = []
        self.young: deque[Edits] = deque(maxlen=SIZE)
        self.model = EditModel([], EFFECT_SD, INTERACTION_SD)
        self.archive: list[Edits] = []

    def train(self, program: Edits) -> None:
        """Train a program; a failure leaves no loss."""
        loss = self.true[program] + self.rng.normal(0.0, NOISE_SD)
        if np.isfinite(loss):
            self.losses[program].append(loss)
            self.young.append(program)
            if not self.rule.model:
                self.believed[program] = float(np.mean(self.losses[program]))

    def refit(self) -> None:
        """Rank the programs again."""
        if self.rule.model and self.losses:
            observations = (
                Observation(program, min(float(np.mean(losses)), self.rule.ceiling), NOISE_SD**2 / len(losses))
                for program, losses in self.losses.items()
            )
            self.model = EditModel(observations, EFFECT_SD, INTERACTION_SD)
            posteriors = self.model.posteriors(list(self.losses))
            self.believed = {program: each.mean for program, each in zip(self.losses, posteriors, strict=True)}
            self.sds = {program: each.sd for program, each in zip(self.losses, posteriors, strict=True)}
        self.archive = sorted(self.believed, key=self.believed.__getitem__)[:SIZE]

    def mutate(self) -> Edits:
        """Return a child of the winner of a tournament; of the baseline while few programs are trained."""
        parent = self._parent()
        child = parent | {len(self.effects)}
        effect = self.landscape.effect(-self.true[parent], self.rng)
        self.effects.append(effect)
        self.misses[child] = self.misses[parent]
        self.true[child] = self.true[parent] + effect
        self.children[parent] += 1
        return child

    def merge(self) -> Edits | None:
        """Return the merge with the lowest posterior mean of some pairs of the archive, for a share of the children."""
        if self.rng.random() >= self.rule.merges:
            return None
        pairs = {}
        every = list(combinations(self.archive, 2))
        for place in self.rng.choice(len(every), min(PAIRS, len(every)), replace=False) if every else ():
            one, other = every[int(place)]
            if not (one <= other or other <= one) and one | other not in self.true:
                pairs[one | other] = one, other
        if not pairs:
            return None
        predicted = [each.mean for each in self.model.posteriors(list(pairs))]
        merged = list(pairs)[int(np.argmin(predicted))]
        one, other = pairs[merged]
        self.misses[merged] = self.landscape.miss(self.rng)
        self.true[merged] = sum(self.effects[edit] for edit in merged) + self.misses[merged]
        self.children[one] += 1
        return merged

    def repeat(self) -> Edits | None:
        """Return the first leader with more children than its trainings justify, as in `GuidedSearch`."""
        if not self.rule.repeats:
            return None
        for place, program in enumerate(self.archive[:LEADERS]):
            children = self.children[program] + (CHILDREN_PER_TRAINING if place == 0 else 0)
            needed = min(1 + children // CHILDREN_PER_TRAINING, MAX_TRAININGS)
            if len(self.losses[program]) < needed and self.believed[program] < 0:
                return program
        return None

    def _parent(self) -> Edits:
        members = list(self.young) if self.rule.ageing else self.archive
        if len(members) < SIZE:
            return frozenset()
        drawn = [members[int(place)] for place in self.rng.choice(len(members), RIVALS, replace=False)]
        spread = 1.0 if self.rule.model else 0.0
        draws = [self.rng.normal(self.believed[each], spread * self.sds.get(each, 0.0)) for each in drawn]
        return drawn[int(np.argmin(draws))]
