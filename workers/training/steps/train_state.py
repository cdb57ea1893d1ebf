"""State and result of a training step, and the update of the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

__all__ = ["Average", "StepResult", "TrainState", "update_state"]


@dataclass(frozen=True, slots=True)
class Average:
    """Parameters averaged over `count` steps."""

    parameters: Any
    count: Any

    @staticmethod
    def start(parameters: Any) -> Average:
        """Return the average before the first step, on the host."""
        return Average(jax.tree.map(np.array, parameters), np.zeros((), np.float32))

    def updated(self, parameters: Any, exponent: float) -> Average:
        """Return the average in which step t has a weight of about t ** exponent (Shamir & Zhang 2013, section 4)."""
        count = self.count + 1
        share = (exponent + 1) / (count + exponent)
        mixed = jax.tree.map(lambda old, new: old + share * (new - old), self.parameters, parameters)
        return Average(mixed, count)


@dataclass(frozen=True, slots=True)
class TrainState:
    """Everything that a step changes.

    Attributes:
        parameters: parameters of the model.
        optimizer: state of the optimizer.
        average: average of the parameters over the steps, which is evaluated instead of them; None: no average.
        rate: factor of the learning rate in the next step, set by the caller; None: always 1.
    """

    parameters: Any
    optimizer: Any
    average: Average | None = None
    rate: Any = None

    @property
    def evaluated(self) -> Any:
        """The parameters that are evaluated."""
        return self.parameters if self.average is None else self.average.parameters


@dataclass(frozen=True, slots=True)
class StepResult:
    """Results of a training step, computed with the parameters before its update.

    Attributes:
        token_losses: losses [batch, length] in nats; their mean is the loss of the batch.
        gradient_norm: global norm of the gradients.
        probe_logits: logits [batch, length, few] of a few fixed tokens at each position, for probes.
    """

    token_losses: jax.Array
    gradient_norm: jax.Array
    probe_logits: jax.Array


for _type in (Average, TrainState, StepResult):
    jax.tree_util.register_dataclass(_type)


def update_state(
    state: TrainState, gradients: Any, optimizer: optax.GradientTransformation, averaging: float
) -> tuple[TrainState, jax.Array]:
    """Return the state after an update by the gradients of its parameters, and their global norm."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    if state.rate is not None:  # the updates of both optimizers are proportional to the learning rate
        updates = jax.tree.map(lambda update: state.rate * update, updates)
    parameters = optax.apply_updates(state.parameters, updates)
    average = None if state.average is None else state.average.updated(parameters, averaging)
    return TrainState(parameters, optimizer_state, average, state.rate), optax.tree.norm(gradients)
