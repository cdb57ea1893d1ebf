"""A trainable model on batches of any objective (with weights, packed texts and prefixes), optionally regularized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ....models.config import ModelConfig
from ....models.language_model import LanguageModel, Prediction
from ....models.training_batch import TrainingBatch, loss_weights, read_positions
from .flat_model import FlatModel, TrainableModel

__all__ = ["BatchModel", "Penalty", "causal_like"]

Penalty = Callable[[jax.Array, jax.Array | None], jax.Array]
"""Function that returns a loss term from the residual stream and the positions that count (None: all)."""


@dataclass(frozen=True, slots=True)
class BatchModel:
    """The functions of a language model that training needs, on a `TrainingBatch` instead of token windows.

    The loss of a token is multiplied by its weight and divided by the mean weight of the batch. So the mean of these
    losses is the weighted mean of the batch.

    Attributes:
        inner: model with its parameters in the form that is trained.
        penalty: regularizer of the residual stream; None: none.
    """

    inner: TrainableModel
    penalty: Penalty | None = None

    @property
    def config(self) -> ModelConfig:
        """Shape of the model."""
        return self.inner.config

    def init(self, rng: np.random.Generator) -> Any:
        """Return initial parameters."""
        return self.inner.init(rng)

    def draw(self, rng: np.random.Generator) -> Any:
        """Return random parameters for probes, none of them 0 or 1."""
        return self.inner.draw(rng)

    def token_losses(self, parameters: Any, batch: TrainingBatch) -> jax.Array:
        """Return the weighted losses [batch, length] in nats."""
        return self.losses_and_probe_logits(parameters, batch)[0]

    def losses_and_probe_logits(self, parameters: Any, batch: TrainingBatch) -> tuple[jax.Array, jax.Array]:
        """Return the losses of `token_losses`, and the logits of a few fixed tokens at each position."""
        prediction = self._predict(parameters, batch)
        return _weighted(prediction.losses, batch), prediction.probe_logits

    def loss(self, parameters: Any, batch: TrainingBatch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Return the loss to minimize (with the regularizer), the weighted token losses, and the probe logits."""
        prediction = self._predict(parameters, batch, stream=self.penalty is not None)
        losses = _weighted(prediction.losses, batch)
        loss = jnp.mean(losses)
        if self.penalty is not None and prediction.stream is not None:
            loss = loss + self.penalty(prediction.stream, read_positions(batch))
        return loss, (losses, prediction.probe_logits)

    def _predict(self, parameters: Any, batch: TrainingBatch, stream: bool = False) -> Prediction:
        if isinstance(self.inner, FlatModel):
            return self.inner.model.predict(self.inner.unflatten(parameters), batch, stream)
        assert isinstance(self.inner, LanguageModel)
        return self.inner.predict(parameters, batch, stream)


def causal_like(batch: TrainingBatch, tokens: np.ndarray) -> TrainingBatch:
    """Return token windows [batch, length + 1] as plain text, with the same arrays as `batch` (all weights are 1)."""
    return TrainingBatch(
        tokens,
        None if batch.weights is None else np.ones((len(tokens), tokens.shape[1] - 1), np.float32),
        None if batch.segment_ids is None else np.zeros(tokens.shape, np.asarray(batch.segment_ids).dtype),
        None if batch.prefix is None else np.zeros(tokens.shape, bool),
    )


def _weighted(losses: jax.Array, batch: TrainingBatch) -> jax.Array:
    weights = loss_weights(batch)
    if weights is None:
        return losses
    mean = jnp.mean(weights)
    return losses * weights / jnp.where(mean > 0, mean, 1)
