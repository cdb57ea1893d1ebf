"""N-gram baseline: the loss that a barely trained model should not beat.

The n-gram model uses interpolated absolute discounting (Ney, Essen & Kneser 1994) on the training text, or on the
beginning of a long training text. If a candidate has a lower loss after seconds of training, it either is much better
than any known block, or it sees the tokens that it must predict.
"""

from __future__ import annotations

import numpy as np

from ..data.dataset import Dataset

__all__ = ["ngram_loss"]

DISCOUNT = 0.75
MAX_TRAINING_TOKENS = 5_000_000
"""Largest number of training tokens to count, which takes 2 s and 300 MB. Four times as many take 8 s and 800 MB, and a
search waits for the counts."""

MAX_SCORED_TOKENS = 200_000


def ngram_loss(dataset: Dataset, order: int = 4) -> float:
    """Return the validation loss of an n-gram model, in nats per token.

    Args:
        dataset: dataset whose training split is counted (the first `MAX_TRAINING_TOKENS`) and whose validation split
            is scored (the first `MAX_SCORED_TOKENS`).
        order: length of the longest n-gram; reduced if the vocabulary is too large for 63-bit keys.
    """
    vocabulary = dataset.vocabulary
    order = min(order, int(63 // np.log2(vocabulary)))
    train = np.asarray(dataset.train[:MAX_TRAINING_TOKENS], np.int64)
    scored = np.asarray(dataset.validation[:MAX_SCORED_TOKENS], np.int64)
    positions = len(scored) - order + 1
    probability = np.full(positions, 1.0 / vocabulary)
    for n in range(1, order + 1):
        keys = _keys(scored, n, vocabulary)[order - n :]
        probability = _interpolate(_keys(train, n, vocabulary), keys, vocabulary, probability)
    return float(-np.mean(np.log(probability)))


def _keys(tokens: np.ndarray, n: int, vocabulary: int) -> np.ndarray:
    """Return each n-gram of the stream as one number, with the last token as its lowest digit."""
    keys = np.zeros(len(tokens) - n + 1, np.int64)
    for place in range(n):
        keys = keys * vocabulary + tokens[place : len(tokens) - n + 1 + place]
    return keys


def _interpolate(seen: np.ndarray, keys: np.ndarray, vocabulary: int, lower: np.ndarray) -> np.ndarray:
    """Return max(c(hw) - D, 0) / c(h) + D * (distinct words after h) / c(h) * lower; `lower` for an unseen history."""
    grams, counts = np.unique(seen, return_counts=True)
    histories, first, distinct = np.unique(grams // vocabulary, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first)
    count = _look_up(grams, counts, keys)
    total = _look_up(histories, totals, keys // vocabulary)
    continuations = _look_up(histories, distinct, keys // vocabulary)
    known = total > 0
    total = np.maximum(total, 1)
    mixed = np.maximum(count - DISCOUNT, 0) / total + DISCOUNT * continuations / total * lower
    return np.where(known, mixed, lower)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the value of each wanted key; 0 if it is missing."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
