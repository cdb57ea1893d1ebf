"""A training batch of any objective, the mean of its losses, and the positions that they depend on.

A causal batch is tokens alone. Packed texts add segment ids, and a prefix language model adds the positions of its
prefix (Raffel et al. 2020, arXiv 1910.10683, section 3.2.1). `LanguageModel.losses` takes all of them.
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
    """Sequences to train on: a pytree of arrays, of NumPy or JAX.

    A position predicts the token that follows it, so the last token is a target only.

    Attributes:
        tokens: token ids.
        weights: weight of the loss of each predicted token, at the position that predicts it; None: 1.
        segment_ids: equal for neighbouring positions of one text; padding is a separate text. None: one text a
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
    """Predictions of a model for a batch.

    Attributes:
        losses: loss of each predicted token, in nats, without its weight (see `mean_loss`).
        probe_logits: logits of the first tokens of the vocabulary, for probes.
        stream: input of the first layer, and output of every layer; None unless it is asked for.
    """

    losses: Float[Array, "batch length"]
    probe_logits: Float[Array, "batch length few"]
    stream: Float[Array, "layers+1 batch length width"] | None


def loss_weights(batch: TrainingBatch, xp: Any = jnp) -> Float[Any, "batch length"] | None:
    """Return the weight of each loss; None if all weigh 1.

    The first token of a text is not predicted: the position before it belongs to another text. `xp` is the array
    namespace.
    """
    if batch.segment_ids is None:
        return batch.weights
    same_text = batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1]
    return same_text.astype(xp.float32) if batch.weights is None else xp.where(same_text, batch.weights, 0)


def read_positions(batch: TrainingBatch, xp: Any = jnp) -> Bool[Any, "batch length"] | None:
    """Return the positions of a text up to the last one whose loss has a weight; None if these are all.

    The others are padding, and the last token of each packed text, which is only predicted.
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
    """Return the number of tokens that a batch, or token windows, give a model to read (see `read_positions`)."""
    batch = batch if isinstance(batch, TrainingBatch) else TrainingBatch(batch)
    read = read_positions(jax.tree.map(np.asarray, batch), np)
    return int(np.asarray(batch.tokens)[:, :-1].size if read is None else read.sum())


def mean_loss(losses: Float[Array, "batch length"], batch: TrainingBatch) -> Float[Array, ""]:
    """Return the weighted mean of the losses of a batch; 0 if no token has a weight."""
    weights = loss_weights(batch)
    if weights is None:
        return jnp.mean(losses)
    total = jnp.sum(weights)
    return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1)
