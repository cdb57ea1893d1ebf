"""Training step, evaluation and probes of one objective.

An objective whose batches hold only tokens uses the same step as a trial, bit for bit, unless there is a penalty. Any
other objective has a step for its own batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ...models.training_batch import TrainingBatch, loss_weights
from ..objectives.objective import Objective
from .steps.batch_model import BatchModel, Penalty, causal_like
from .steps.flat_model import TrainableModel
from .steps.train_state import TrainState
from .steps.train_step import StepFunctions
from .training_loop import Batches
from .trial_probes import (
    Steps,
    StepsOnTokens,
    probe_causality,
    probe_finite,
    probe_trained_batch,
    probe_trained_model,
)

__all__ = ["ObjectiveSteps"]


@dataclass(frozen=True)
class ObjectiveSteps:
    """The compiled functions of a model under an objective.

    Attributes:
        model: model with its parameters in the form that is trained.
        objective: objective of the training.
        optimizer: gradient transformation.
        averaging: exponent of the average of parameters; 0: no average.
        mesh: mesh of the devices; None: one device.
        brief: whether the training is brief (see `is_brief`).
        penalty: regularizer of the residual stream; None: none.
    """

    model: TrainableModel
    objective: Objective
    optimizer: optax.GradientTransformation
    averaging: float = 0.0
    mesh: Mesh | None = None
    brief: bool = False
    penalty: Penalty | None = None

    @cached_property
    def functions(self) -> StepFunctions:
        """Step and evaluation, not compiled yet."""
        if self.uses_trial_step:
            batch = len(self._example.tokens)
            return StepFunctions(self.model, self.optimizer, batch, self.averaging, mesh=self.mesh, by_layer=self.brief)
        model = BatchModel(self.model, self.penalty)
        loss = BatchModel.loss
        return StepFunctions(model, self.optimizer, self._example, self.averaging, mesh=self.mesh, loss=loss)

    @property
    def reads_text(self) -> bool:
        """Whether the objective's batches hold only tokens, so that its loss is the loss of plain text."""
        return len(jax.tree.leaves(self._example)) == 1

    @property
    def uses_trial_step(self) -> bool:
        """Whether the step is the same as in a trial, on token windows."""
        return self.reads_text and self.penalty is None

    @property
    def batches(self) -> Batches:
        """Batches in the form that the step takes."""
        return _TokenWindows(self.objective) if self.uses_trial_step else self.objective

    def held_out_loss(self, state: TrainState) -> float:
        """Return the mean loss of the held-out batches, in nats."""
        return self._loss(state, self._held_out)

    def text_loss(self, state: TrainState, windows: np.ndarray) -> float:
        """Return the mean loss of token windows [count, batch, length + 1], each token predicted from earlier ones."""
        if self.uses_trial_step:
            return self._loss(state, windows)
        return self._loss(state, [causal_like(self._example, tokens) for tokens in windows])

    def probe(self, state: TrainState, rng: np.random.Generator) -> None:
        """Probe an untrained model on the first batch.

        Raises:
            ProbeFault: a loss or a gradient is not finite, or the model sees later tokens.
        """
        probe_finite(self.functions, jax.tree.map(np.array, state), self.batches.batch_at(0))
        probe_causality(self._on_windows, self.model, state.optimizer, np.asarray(self._example.tokens), rng)

    def probe_trained(self, state: TrainState, steps: Sequence[int], rng: np.random.Generator) -> float:
        """Probe a trained model on the batches of some steps; return the largest change of a logit.

        Raises:
            ProbeFault: the model sees later tokens, its targets, or other examples.
        """
        config, unseen = self.model.config, [self.objective.batch_at(step) for step in steps]
        moves = [probe_trained_model(self._on_windows, config, state, np.asarray(each.tokens), rng) for each in unseen]
        if not self.reads_text:
            moves += [probe_trained_batch(self.functions, config, state, each, rng) for each in unseen]
        return max(moves)

    @cached_property
    def _example(self) -> TrainingBatch:
        return self.objective.batch_at(0)

    @cached_property
    def _held_out(self) -> list[Any]:
        return [batch.tokens if self.uses_trial_step else batch for batch in self.objective.held_out()]

    @property
    def _on_windows(self) -> Steps:
        """Steps on token windows; each window is one text without a prefix."""
        if self.uses_trial_step:
            return self.functions
        return StepsOnTokens(self.functions, partial(causal_like, self._example))

    def _loss(self, state: TrainState, batches: Iterable[Any]) -> float:
        """Return the mean loss of all tokens, weighted if they have weights."""
        if self.uses_trial_step:
            return self.functions.evaluate(state, batches)
        scored = [(self.functions.evaluate(state, [batch]), _total_weight(batch)) for batch in batches]
        return float(np.average([loss for loss, _ in scored], weights=[weight for _, weight in scored]))


@dataclass(frozen=True, slots=True)
class _TokenWindows:
    """Batches of an objective that hold only tokens, as arrays."""

    objective: Objective

    def batch_at(self, step: int) -> np.ndarray:
        return self.objective.batch_at(step).tokens

    def epochs_seen(self, step: int) -> float:
        return self.objective.epochs_seen(step)


def _total_weight(batch: TrainingBatch) -> float:
    weights = loss_weights(batch, np)
    return float(batch.tokens[:, 1:].size if weights is None else np.sum(weights))
