"""An additive model of edits: posterior means of the fitness of all programs of a run, also of programs not trained.

Every program of a run is the baseline with a set of edits: those of its lineage, of both lineages for a merge. An edit
is named by the candidate in which it first occurred. The model says that the fitness of a program is

    baseline + sum of the effects of its edits + an interaction of its own,

where effects are N(0, effect_sd^2) and interactions N(0, interaction_sd^2). A program that shares edits with good
programs is expected to be good, so a lucky training of one program is corrected by its relatives, and the model
predicts a merge before it is trained. With normal noise this is a Gaussian process whose covariance counts shared edits
(Rasmussen & Williams 2006, section 2.2 and 2.7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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


class EditModel:
    """Gaussian process over sets of edits.

    Args:
        observations: measurements; several of one program are averaged.
        effect_sd: standard deviation of the effect of one edit, in nats per token.
        interaction_sd: standard deviation of what the sum of effects misses for a program.
    """

    def __init__(self, observations: Iterable[Observation], effect_sd: float, interaction_sd: float):
        self._effect = effect_sd**2
        self._interaction = interaction_sd**2
        precision: dict[Edits, float] = {}
        weighted: dict[Edits, float] = {}
        for each in observations:
            precision[each.edits] = precision.get(each.edits, 0.0) + 1.0 / each.variance
            weighted[each.edits] = weighted.get(each.edits, 0.0) + each.fitness / each.variance
        self._programs = list(precision)
        self._places = {edits: place for place, edits in enumerate(self._programs)}
        self._edits = {edit: place for place, edit in enumerate(sorted(set().union(*self._programs)))}
        self._incidence = self._incidences(self._programs)
        means = np.array([weighted[edits] / precision[edits] for edits in self._programs])
        noise = np.array([1.0 / precision[edits] for edits in self._programs])
        covariance = self._effect * self._incidence @ self._incidence.T
        covariance[np.diag_indices_from(covariance)] += self._interaction * self._incidence.any(axis=1) + noise
        self._factor = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(noise))) if len(noise) else None
        self._weights = self._solve(means) if len(noise) else means

    def posteriors(self, programs: Sequence[Edits]) -> list[Normal]:
        """Return the posterior of each program, trained or not."""
        new = [frozenset(edits) for edits in programs]
        incidence = self._incidences(new)
        unknown = np.array([len(edits) - count for edits, count in zip(new, incidence.sum(axis=1), strict=True)])
        own = np.array([float(bool(edits)) for edits in new])
        prior = self._effect * (incidence.sum(axis=1) + unknown) + self._interaction * own
        if self._factor is None:
            return [Normal(0.0, float(np.sqrt(variance))) for variance in prior]
        shared = self._effect * incidence @ self._incidence.T
        for row, edits in enumerate(new):
            if edits and edits in self._places:
                shared[row, self._places[edits]] += self._interaction
        means = shared @ self._weights
        explained = np.linalg.solve(self._factor, shared.T)
        variances = np.maximum(prior - (explained**2).sum(axis=0), 0.0)
        return [Normal(float(m), float(np.sqrt(v))) for m, v in zip(means, variances, strict=True)]

    def effects(self) -> Mapping[int, float]:
        """Return the posterior mean of the effect of every edit."""
        if self._factor is None:
            return {}
        effects = self._effect * self._incidence.T @ self._weights
        return {edit: float(effects[place]) for edit, place in self._edits.items()}

    def _solve(self, values: np.ndarray) -> np.ndarray:
        assert self._factor is not None
        return np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, values))

    def _incidences(self, programs: Sequence[Edits]) -> np.ndarray:
        """Return a matrix [programs, known edits] of 0 and 1."""
        matrix = np.zeros((len(programs), len(self._edits)))
        for row, edits in enumerate(programs):
            for edit in edits:
                if edit in self._edits:
                    matrix[row, self._edits[edit]] = 1.0
        return matrix
