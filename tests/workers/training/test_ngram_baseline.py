"""The n-gram baseline: its loss agrees with computations by hand, and is not better than the text allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from primer_search.workers.training.ngram_baseline import DISCOUNT, ngram_loss


@dataclass
class Text:
    """The part of a dataset that `ngram_loss` reads."""

    train: np.ndarray
    validation: np.ndarray
    vocabulary: int


def test_a_bigram_model_agrees_with_the_textbook() -> None:
    train, validation, vocabulary = [0, 1, 0, 2, 0, 1], [0, 1, 0, 0], 4
    text = Text(np.array(train), np.array(validation), vocabulary)

    def unigram(word: int) -> float:
        count, distinct = train.count(word), len(set(train))
        return max(count - DISCOUNT, 0) / len(train) + DISCOUNT * distinct / len(train) / vocabulary

    def bigram(history: int, word: int) -> float:
        pairs = list(pairwise(train))
        after = [second for first, second in pairs if first == history]
        mass = DISCOUNT * len(set(after)) / len(after)
        return max(after.count(word) - DISCOUNT, 0) / len(after) + mass * unigram(word)

    expected = -np.mean([math.log(bigram(h, w)) for h, w in pairwise(validation)])
    assert ngram_loss(text, 2) == pytest.approx(expected)  # type: ignore[arg-type]


def test_its_probabilities_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 5, 300)
    total = 0.0
    for word in range(5):
        text = Text(train, np.array([1, 2, 3, word]), 5)
        total += math.exp(-ngram_loss(text, 4))  # type: ignore[arg-type]
    assert total == pytest.approx(1.0)


def test_longer_contexts_predict_text_that_has_them() -> None:
    train = np.tile([0, 1, 0, 2, 0, 3], 500)
    text = Text(train, train[:300], 4)
    losses = [ngram_loss(text, order) for order in (1, 2, 3)]  # type: ignore[arg-type]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.05


def test_random_text_has_the_entropy_of_its_vocabulary() -> None:
    rng = np.random.default_rng(0)
    text = Text(rng.integers(0, 16, 200_000), rng.integers(0, 16, 20_000), 16)
    assert ngram_loss(text, 3) == pytest.approx(math.log(16), abs=0.05)  # type: ignore[arg-type]


def test_the_order_is_reduced_if_keys_would_overflow() -> None:
    train = np.arange(1000) % 60_000
    text = Text(train, train[:100], 262_144)
    assert ngram_loss(text, 8) == ngram_loss(text, 3)  # type: ignore[arg-type]
