"""An additive model of edits: posterior means of the fitness of all programs of a run, trained or not.

Every program of a run is the baseline with a set of edits: the edits of its lineage, or for a merge, the edits of both
lineages. An edit is named by the candidate in which it first occurred. In the model, the fitness of a program is

    baseline + sum of the effects of its edits + the program's own interaction,

where effects have the prior N(0, effect_sd^2) and interactions N(0, interaction_sd^2). A program that shares edits with
good programs is expected to be good. So the results of related programs correct a lucky training, and the model
predicts a merge before it is trained. With normal noise this is Bayesian linear regression. It is also a Gaussian
process in which the covariance of two programs is proportional to the number of edits that they share (Rasmussen &
Williams 2006, sections 2.1 and 2.2).

An edit is shared if several measured programs have it. Most programs also have an edit of their own. The effects of own
edits and the interactions are integrated out: each program then counts as a noisier measurement of the sum of its
shared edits. So the matrix of the regression has one row for each shared edit, and there are far fewer shared edits
than programs. This saves time, because the time to factor the matrix grows with the cube of its rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from .linear_model import Normal

__all__ = ["EditModel", "Edits", "Observation"]

Edits = frozenset[int]
"""Edits of a program: ids of the candidates in which they first occurred; empty for the baseline."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One noisy measurement of a program's fitness.

    Attributes:
        edits: edits of the program.
        fitness: measured fitness relative to the baseline, in nats per token; lower is better.
        variance: variance of the measurement.
    """

    edits: Edits
    fitness: float
    variance: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """Measured fitness of one program.

    Attributes:
        fitness: mean of the measurements, weighted by their precision.
        noise: variance of this mean.
        own: prior variance of the part that shared edits do not explain: the effects of own edits, and the interaction.
    """

    fitness: float
    noise: float
    own: float


class EditModel:
    """Posterior of the effects of all edits, and of the fitness of any set of them.

    Args:
        observations: measurements; several measurements of one program are averaged.
        effect_sd: standard deviation of the effect of one edit, in nats per token.
        interaction_sd: standard deviation of the interaction of a program, in nats per token.
    """

    def __init__(self, observations: Iterable[Observation], effect_sd: float, interaction_sd: float):
        self._effect = effect_sd**2
        self._interaction = interaction_sd**2
        precision: dict[Edits, float] = {}
        weighted: dict[Edits, float] = {}
        for each in observations:
            precision[each.edits] = precision.get(each.edits, 0.0) + 1.0 / each.variance
            weighted[each.edits] = weighted.get(each.edits, 0.0) + each.fitness / each.variance
        uses = Counter(edit for edits in precision for edit in edits)
        shared = sorted(edit for edit, count in uses.items() if count > 1)
        self._shared = {edit: place for place, edit in enumerate(shared)}
        self._owner = {edit: edits for edits in precision for edit in edits if uses[edit] == 1}
        self._measured = {
            edits: _Measured(
                weighted[edits] / precision[edits],
                1.0 / precision[edits],
                self._effect * sum(edit in self._owner for edit in edits) + self._interaction * bool(edits),
            )
            for edits in precision
        }
        incidence = np.array([self._incidence(edits) for edits in precision]).reshape(len(precision), len(shared))
        trust = np.array([1.0 / (each.own + each.noise) for each in self._measured.values()])
        fitness = np.array([each.fitness for each in self._measured.values()])
        precisions = incidence.T @ (trust[:, None] * incidence) + np.eye(len(shared)) / self._effect
        self._factor = np.linalg.cholesky(precisions)
        self._effects = cho_solve((self._factor, True), incidence.T @ (trust * fitness)) if shared else np.zeros(0)

    def posteriors(self, programs: Sequence[Edits]) -> list[Normal]:
        """Return the posterior of each program, trained or not."""
        given = [self._given_shared_effects(frozenset(edits)) for edits in programs]
        rows = np.array([row for row, _, _ in given]).reshape(len(given), len(self._shared))
        means = rows @ self._effects + np.array([constant for _, constant, _ in given])
        spread = solve_triangular(self._factor, rows.T, lower=True) if self._shared else rows.T
        variances = (spread**2).sum(axis=0) + np.array([variance for _, _, variance in given])
        return [Normal(float(m), float(np.sqrt(v))) for m, v in zip(means, variances, strict=True)]

    def effects(self) -> Mapping[int, float]:
        """Return the posterior mean of the effect of every edit."""
        effects = {edit: float(self._effects[place]) for edit, place in self._shared.items()}
        for edit, edits in self._owner.items():
            effects[edit] = self._share(edits, self._effect) * self._surprise(edits)
        return effects

    def _given_shared_effects(self, program: Edits) -> tuple[np.ndarray, float, float]:
        """Return the fitness of a program given the shared effects: their coefficients, a constant and a variance."""
        measured = self._measured.get(program)
        if measured is not None:  # its own edits and its interaction follow from its measurement
            share = self._share(program, measured.own)
            return (1 - share) * self._incidence(program), share * measured.fitness, measured.own * (1 - share)
        row, constant, variance = self._incidence(program), 0.0, self._interaction * bool(program)
        owners = Counter(self._owner.get(edit) for edit in program if edit not in self._shared)
        for owner, count in owners.items():
            prior = self._effect * count
            share = 0.0
            if owner is not None:  # edits of one trained program only
                share = self._share(owner, prior)
                row -= share * self._incidence(owner)
                constant += share * self._measured[owner].fitness
            variance += prior * (1 - share)
        return row, constant, variance

    def _share(self, program: Edits, variance: float) -> float:
        """Return the share of a trained program's surprise that a part with this prior variance explains."""
        measured = self._measured[program]
        return variance / (measured.own + measured.noise)

    def _surprise(self, program: Edits) -> float:
        """Return the surprise of a trained program: its fitness minus the expected effects of its shared edits."""
        return self._measured[program].fitness - float(self._incidence(program) @ self._effects)

    def _incidence(self, program: Edits) -> np.ndarray:
        """Return a row of 0 and 1, 1 for the shared edits that the program has."""
        row = np.zeros(len(self._shared))
        row[[self._shared[edit] for edit in program if edit in self._shared]] = 1.0
        return row
