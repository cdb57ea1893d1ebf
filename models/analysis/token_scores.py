"""Loss of every next token of a text, and whether the model's most probable token is the correct one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..language_model import LanguageModel, negative_log_likelihood

__all__ = ["TokenScores", "make_token_scorer"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """Scores of the predicted tokens of windows of a text.

    Attributes:
        losses: negative log-likelihoods in nats, [windows, length].
        correct: whether the most probable token is the correct one, [windows, length].
    """

    losses: np.ndarray
    correct: np.ndarray

    @property
    def loss_nats(self) -> float:
        """Mean loss; infinite if it is not a number, so that it never counts as better."""
        mean = float(np.mean(self.losses, dtype=np.float64))
        return mean if np.isfinite(mean) else float("inf")

    @property
    def accuracy(self) -> float:
        """Share of the tokens that are predicted correctly."""
        return float(np.mean(self.correct))


TokenScorer = Callable[[Any, np.ndarray], TokenScores]
"""Function that scores windows `[batches, batch, length + 1]` with given parameters."""


def make_token_scorer(model: LanguageModel) -> TokenScorer:
    """Return the scorer of a model. It is compiled once for all parameters and all batches of one shape."""

    @jax.jit
    def score(parameters: Any, tokens: Array) -> tuple[Array, Array]:
        logits, targets = model.logits(parameters, tokens[:, :-1]), tokens[:, 1:]
        return negative_log_likelihood(logits, targets), jnp.argmax(logits, axis=-1) == targets

    def score_windows(parameters: Any, batches: np.ndarray) -> TokenScores:
        scored = [jax.device_get(score(parameters, batch)) for batch in batches]
        losses, correct = (np.concatenate(each) for each in zip(*scored, strict=True))
        return TokenScores(losses, correct)

    return score_windows
