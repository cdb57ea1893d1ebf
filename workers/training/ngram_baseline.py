"""What counting alone predicts: the loss of an n-gram model, a floor for a model that has hardly trained.

Interpolated absolute discounting (Ney, Essen & Kneser 1994) over the training text, of a long one its beginning. A
candidate that trained for seconds and beats a table of all that such text holds is either much better than any known
block or sees what it must predict.
"""

from __future__ import annotations

import numpy as np

from ..data.dataset import Dataset

__all__ = ["ngram_loss"]

DISCOUNT = 0.75
MOST_TRAINING_TOKENS = 5_000_000
"""A search waits for this: 2 s and 300 MB; four times as many tokens take 8 s and 800 MB."""

MOST_SCORED_TOKENS = 200_000


def ngram_loss(dataset: Dataset, order: int = 4) -> float:
    """Validation loss of an n-gram model, in nats per token.

    Args:
        dataset: counted on its training split (the first `MOST_TRAINING_TOKENS`), scored on its validation split (the
            first `MOST_SCORED_TOKENS`).
        order: longest n-gram; shortened where the vocabulary is too large for 63-bit keys.
    """
    vocabulary = dataset.vocabulary
    order = min(order, int(63 // np.log2(vocabulary)))
    train = np.asarray(dataset.train[:MOST_TRAINING_TOKENS], np.int64)
    scored = np.asarray(dataset.validation[:MOST_SCORED_TOKENS], np.int64)
    positions = len(scored) - order + 1
    probability = np.full(positions, 1.0 / vocabulary)
    for n in range(1, order + 1):
        keys = _keys(scored, n, vocabulary)[order - n :]
        probability = _interpolate(_keys(train, n, vocabulary), keys, vocabulary, probability)
    return float(-np.mean(np.log(probability)))


def _keys(tokens: np.ndarray, n: int, vocabulary: int) -> np.ndarray:
    """Each n-gram of the stream as one number, the last token as its lowest digit."""
    keys = np.zeros(len(tokens) - n + 1, np.int64)
    for place in range(n):
        keys = keys * vocabulary + tokens[place : len(tokens) - n + 1 + place]
    return keys


def _interpolate(seen: np.ndarray, keys: np.ndarray, vocabulary: int, lower: np.ndarray) -> np.ndarray:
    """max(c(hw) - D, 0) / c(h) + D * (distinct words after h) / c(h) * lower; `lower` after an unseen history."""
    grams, counts = np.unique(seen, return_counts=True)
    histories, first, distinct = np.unique(grams // vocabulary, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first)
    count = _looked_up(grams, counts, keys)
    total = _looked_up(histories, totals, keys // vocabulary)
    continuations = _looked_up(histories, distinct, keys // vocabulary)
    known = total > 0
    total = np.maximum(total, 1)
    mixed = np.maximum(count - DISCOUNT, 0) / total + DISCOUNT * continuations / total * lower
    return np.where(known, mixed, lower)


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value at each wanted key; 0 where it is missing."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
