"""Regularizers of the residual stream that make the embeddings of neighbouring layers more similar in training.

Razzhigaev et al. 2024 (arXiv 2405.12250, section 5) add one of these two to the loss in pretraining:

    cosine: strength * sum over layers of the mean over tokens of 1 - cos(h[i], h[i - 1])
    mse:    strength * sum over layers of the mean over tokens and channels of (h[i] - h[i - 1]) ** 2

Tokens are the positions that a loss depends on, without padding (`models.training_batch.read_positions`).

They report, as a surprise, that the cosine regularizer lowers the linearity of the layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["LinearityPenalty"]

SMALLEST_NORM = 1e-6
"""Smallest divisor of an embedding. For embeddings with a smaller norm, the cosine is too close to 0."""


@dataclass(frozen=True, slots=True)
class LinearityPenalty:
    """A regularizer and its strength.

    Attributes:
        kind: `cosine` or `mse`.
        strength: factor of the sum over layers, at least 0.
    """

    kind: Literal["cosine", "mse"]
    strength: float

    def __call__(
        self, stream: Float[Array, "layers+1 batch length width"], read: Bool[Array, "batch length"] | None = None
    ) -> Float[Array, ""]:
        """Return the penalty of a residual stream.

        Args:
            stream: input of the first layer, and output of every layer.
            read: True for positions that count; None: all positions count. The penalty is 0 if no position counts.
        """
        counted = jnp.ones(stream.shape[1:3], bool) if read is None else read
        stream = jnp.where(counted[..., None], stream.astype(jnp.float32), 0)  # NaN in padding is dropped too
        before, after = stream[:-1], stream[1:]
        distances = (
            1.0 - jnp.sum(_directions(before) * _directions(after), axis=-1)
            if self.kind == "cosine"
            else jnp.mean(jnp.square(after - before), axis=-1)
        )
        return self.strength * jnp.sum(jnp.where(counted, distances, 0)) / jnp.maximum(jnp.sum(counted), 1)


def _directions(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), SMALLEST_NORM**2))
