"""Adaptive choice of edits: mutations similar to those that lowered the fitness in this run are proposed more often.

A mutation has features: the ops that it adds, and their families, the families of the ops that it removes, the
subprograms that it changes, and whether it changes a constant, a width or a number of branches. The gain of a child is
its parent's fitness minus its own; it counts as 0 if the child is worse. The expected gain of a mutation is a linear
function of its features, fitted to the gains of all mutated children of the run.

The search draws several mutations of a parent and takes one of them, with a probability proportional to the expected
gain plus half a standard deviation. So features that few children have are also tried. At first no feature is
preferred; preferences come only from the trainings of this run. Some children take a mutation without this choice, so
that every kind of edit is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...primitives.differences.instruction_alignment import align_instructions
from ...primitives.ops.op_table import OPS
from ...primitives.programs.program import DNA, Instruction
from ..evolution.random_draws import draw_weighted
from .linear_model import Normal, fit_linear_model

__all__ = ["EditChoice", "edit_features"]

LARGEST_GAIN = 0.1
"""Cap on the gain of a child, in nats."""

GAIN = 0.005
"""Prior mean of the gain of a mutation, and its prior standard deviation, in nats. Most mutations gain nothing."""

FEATURE_SD = 0.02
"""Prior standard deviation of what a feature adds to the expected gain, in nats."""

NOISE_SD = 0.02
"""Prior standard deviation of a gain around its expected value, in nats; it counts as `NOISE_WEIGHT` children."""

NOISE_WEIGHT = 20

OPTIMISM = 0.5
"""Standard deviations added to an expected gain, so that features that few children have are tried."""

LEAST_GAIN = 0.001
"""Lower limit of the expected gain, in nats, so that no feature excludes a mutation."""


def edit_features(parent: DNA, child: DNA) -> frozenset[str]:
    """Return the features by which a child differs from its parent; both have the same list of subprograms."""
    features: set[str] = set()
    if parent.constants != child.constants:
        features.add("constant")
    if parent.dimensions != child.dimensions:
        features.add("width")
    for old, new in zip(parent.subprograms, child.subprograms, strict=True):
        if old.instructions != new.instructions:
            features |= {f"in {old.name}", *_instruction_features(old.instructions, new.instructions)}
    return frozenset(features)


def _instruction_features(old: Sequence[Instruction], new: Sequence[Instruction]) -> Iterable[str]:
    for before, after in align_instructions(old, new):
        removed = None if before is None else old[before]
        added = None if after is None else new[after]
        if removed is None or added is None or removed.op != added.op:
            if added is not None:
                yield from (f"adds {_family(added)}", f"adds {_op(added)}")
            if removed is not None:
                yield f"removes {_family(removed)}"
            continue
        if removed.branches != added.branches:
            yield "branches"
        if removed.dimension != added.dimension and added.op in OPS and OPS[added.op].uses_dimension:
            yield "width"
        if removed.constant != added.constant and added.op in OPS and OPS[added.op].uses_constant:
            yield "constant"


def _family(instruction: Instruction) -> str:
    return OPS[instruction.op].family if instruction.op in OPS else "call"


def _op(instruction: Instruction) -> str:
    return instruction.op if instruction.op in OPS else "call of a subprogram"


class EditChoice:
    """Model of the gain of a mutation, given its features.

    Args:
        children: features of each mutated child so far.
        gains: gain of each child over its parent, in nats; negative if it is worse.
    """

    def __init__(self, children: Sequence[frozenset[str]], gains: Sequence[float]):
        self._places = {name: place for place, name in enumerate(sorted(set().union(*children)))}
        prior = [Normal(GAIN, GAIN), *(Normal(0.0, FEATURE_SD) for _ in self._places)]
        targets = np.clip(np.array(gains, float), 0.0, LARGEST_GAIN)
        self._model = fit_linear_model(self._rows(children), targets, prior, NOISE_SD, NOISE_WEIGHT)

    def optimistic_gains(self, edits: Sequence[frozenset[str]]) -> np.ndarray:
        """Return the expected gain plus `OPTIMISM` standard deviations, in nats, at least `LEAST_GAIN`."""
        rows = self._rows(edits)
        variances = np.einsum("ef,fg,eg->e", rows, self._model.covariance, rows)
        unknown = np.array([sum(name not in self._places for name in features) for features in edits])
        return np.maximum(
            rows @ self._model.coefficients + OPTIMISM * np.sqrt(variances + unknown * FEATURE_SD**2), LEAST_GAIN
        )

    def choose(self, edits: Sequence[frozenset[str]], rng: np.random.Generator) -> int:
        """Return the index of one mutation, drawn with a probability proportional to `optimistic_gains`."""
        gains = self.optimistic_gains(edits)
        return draw_weighted(np.cumsum(gains / gains.sum()), rng)

    def _rows(self, edits: Sequence[frozenset[str]]) -> np.ndarray:
        """Return a matrix [mutations, 1 + known features] of 0 and 1; the first column is 1."""
        width, places = 1 + len(self._places), self._places
        rows = np.zeros(len(edits) * width)
        rows[::width] = 1.0
        rows[[k * width + 1 + places[name] for k, names in enumerate(edits) for name in names if name in places]] = 1.0
        return rows.reshape(len(edits), width)
