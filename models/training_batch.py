"""A training batch of any objective, and the mean of its losses.

A causal batch is tokens alone. Packed texts add segment ids, and a prefix language model adds the positions of its
prefix (Raffel et al. 2020, arXiv 1910.10683, section 3.2.1). `LanguageModel.losses` takes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Prediction", "TrainingBatch", "loss_weights", "mean_loss"]


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences to train on: a pytree of arrays, of NumPy or JAX.

    A position predicts the token that follows it, so the last token is a target only.

    Attributes:
        tokens: token ids.
        weights: weight of the loss of each predicted token, at the position that predicts it; None: 1.
        segment_ids: equal for neighbouring positions of one text; padding is a text of its own. None: one text a
            sequence.
        prefix: True for positions that see each other in both directions within their text. They are the first ones of
            the text. None: no prefix; each position sees the earlier ones.
    """

    tokens: Int[Any, "batch length+1"]
    weights: Float[Any, "batch length"] | None = None
    segment_ids: Int[Any, "batch length+1"] | None = None
    prefix: Bool[Any, "batch length+1"] | None = None


jax.tree_util.register_dataclass(TrainingBatch)


class Prediction(NamedTuple):
    """What a model predicts for a batch.

    Attributes:
        losses: loss of each predicted token, in nats, without its weight (see `mean_loss`).
        probe_logits: logits of the first tokens of the vocabulary, for probes.
        stream: input of the first layer, and output of every layer; None unless it is asked for.
    """

    losses: Float[Array, "batch length"]
    probe_logits: Float[Array, "batch length few"]
    stream: Float[Array, "layers+1 batch length width"] | None


def loss_weights(batch: TrainingBatch) -> Float[Array, "batch length"] | None:
    """Return the weight of each loss; None if all weigh 1.

    The first token of a text is not predicted: the position before it belongs to another text.
    """
    if batch.segment_ids is None:
        return batch.weights
    same_text = batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1]
    return same_text.astype(jnp.float32) if batch.weights is None else jnp.where(same_text, batch.weights, 0)


def mean_loss(losses: Float[Array, "batch length"], batch: TrainingBatch) -> Float[Array, ""]:
    """Return the weighted mean of the losses of a batch; 0 if no token has a weight."""
    weights = loss_weights(batch)
    if weights is None:
        return jnp.mean(losses)
    total = jnp.sum(weights)
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1)
