"""Training batches of any objective, the mean loss of a batch, and the positions that its losses depend on.

A causal batch has tokens only. Packed texts add segment ids, and a prefix language model adds the positions of its
prefix (Raffel et al. 2020, arXiv 1910.10683, section 3.2.1). `LanguageModel.losses` takes all of these batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..primitives.causality.packed_texts import number_texts

__all__ = ["Prediction", "TrainingBatch", "count_tokens", "loss_weights", "mean_loss", "read_positions"]


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences to train on, a pytree of NumPy or JAX arrays.

    Each position predicts the token that follows it, so the last token is only a target.

    Attributes:
        tokens: token ids.
        weights: weight of the loss of each predicted token, at the position that predicts it; None: 1.
        segment_ids: equal for neighbouring positions of one text; padding is a separate text. None: one text per
            sequence.
        prefix: True for the first positions of a text, which see each other in both directions. None: no prefix; each
            position sees earlier positions only.
    """

    tokens: Int[Any, "batch length+1"]
    weights: Float[Any, "batch length"] | None = None
    segment_ids: Int[Any, "batch length+1"] | None = None
    prefix: Bool[Any, "batch length+1"] | None = None


jax.tree_util.register_dataclass(TrainingBatch)


class Prediction(NamedTuple):
    """Predictions of a model for a batch.

    Attributes:
        losses: loss of each predicted token, in nats, without its weight (see `mean_loss`).
        probe_logits: logits of the first tokens of the vocabulary, for probes.
        stream: input of the first layer, and output of every layer; None unless it was requested.
    """

    losses: Float[Array, "batch length"]
    probe_logits: Float[Array, "batch length few"]
    stream: Float[Array, "layers+1 batch length width"] | None


def loss_weights(batch: TrainingBatch, xp: Any = jnp) -> Float[Any, "batch length"] | None:
    """Return the weight of each loss; None if all weights are 1.

    The first token of a text is not predicted, because the position before it belongs to another text. `xp` is the
    array namespace.
    """
    if batch.segment_ids is None:
        return batch.weights
    same_text = batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1]
    return same_text.astype(xp.float32) if batch.weights is None else xp.where(same_text, batch.weights, 0)


def read_positions(batch: TrainingBatch, xp: Any = jnp) -> Bool[Any, "batch length"] | None:
    """Return the positions of each text up to the last one with a positive loss weight; None if all are included.

    The other positions are padding, and the last token of each packed text, which is only a target.
    """
    weights = loss_weights(batch, xp)
    if weights is None:
        return None
    length = weights.shape[1]
    least = np.minimum.accumulate if xp is np else jax.lax.cummin
    following = least(xp.where(weights > 0, xp.arange(length)[None], length)[:, ::-1], axis=1)[:, ::-1]
    if batch.segment_ids is None:
        return following < length
    texts = number_texts(xp, batch.segment_ids)  # one longer than the positions, so that each index is valid
    return (following < length) & (xp.take_along_axis(texts, following, axis=1) == texts[:, :-1])


def count_tokens(batch: TrainingBatch | Int[np.ndarray, "batch length+1"]) -> int:
    """Return the number of tokens that a model reads from a batch or from token windows (see `read_positions`)."""
    batch = batch if isinstance(batch, TrainingBatch) else TrainingBatch(batch)
    read = read_positions(jax.tree.map(np.asarray, batch), np)
    return int(np.asarray(batch.tokens)[:, :-1].size if read is None else read.sum())


def mean_loss(losses: Float[Array, "batch length"], batch: TrainingBatch) -> Float[Array, ""]:
    """Return the weighted mean of the losses of a batch; 0 if all weights are 0."""
    weights = loss_weights(batch)
    if weights is None:
        return jnp.mean(losses)
    total = jnp.sum(weights)
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1)
