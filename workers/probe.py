"""Cheap tests of the real language model before its budget starts, with the training step that is compiled anyway.

1. Finite: loss and gradients of one small batch.
2. Causal: with random parameters, exchanging the tokens from a position on leaves the losses of earlier
   predictions as they were, that of the first exchanged token included.

A token is the target of the position before it, so its exchange would move that loss in honest programs too, and hide
the greatest cheat: reading the very token to predict. So tokens come in twins, which differ where they are read and
not where they are predicted: the final norm shows the head one half of the channels, in which twins embed alike.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..models.config import ModelConfig
from ..models.language_model import LanguageModel
from .steps import StepFunctions, TrainState

__all__ = [
    "CausalityFault",
    "FiniteFault",
    "ProbeFault",
    "exchange_future",
    "probe_causality",
    "probe_finite",
    "rounding",
    "twin_parameters",
]

TOLERANCE = 1e-5
"""Largest change of a past loss, relative to the largest loss (at least 1 nat), that float32 rounding explains;
bfloat16 gets BFLOAT16_TOLERANCE. On CPU honest programs move by exactly 0 in both."""

BFLOAT16_TOLERANCE = 2e-3


class ProbeFault(Exception):
    """A candidate cannot be trained; `why` is the reason of its rejection."""

    why = "probe"


class FiniteFault(ProbeFault):
    """Loss or gradient of the first batch is not finite."""

    why = "finiteness"


class CausalityFault(ProbeFault):
    """A prediction depends on later tokens."""

    why = "causality"


def probe_finite(functions: StepFunctions, state: TrainState, tokens: np.ndarray) -> TrainState:
    """Take one step from `state` (consumed), and give back the state after it.

    Raises:
        FiniteFault: loss or gradient norm is not finite.
    """
    state, result = functions.step(state, tokens)
    if not np.all(np.isfinite(np.asarray(result.token_losses))):
        raise FiniteFault("the loss of the first batch is not finite")
    if not np.isfinite(np.asarray(result.gradient_norm)):
        raise FiniteFault("the gradient of the first batch is not finite")
    return state


def probe_causality(
    functions: StepFunctions, model: LanguageModel, optimizer_state: Any, tokens: np.ndarray, rng: np.random.Generator
) -> None:
    """Exchange the future of every sequence, each from a position of its own, and compare past losses.

    Args:
        functions: with the training step compiled.
        model: draws the random parameters.
        optimizer_state: any, of the right shapes; it is copied.
        tokens: `[batch, length + 1]`.
        rng: source of parameters and futures.

    Raises:
        CausalityFault: a past loss moved.
        FiniteFault: a loss is not finite.
    """
    parameters = twin_parameters(model.draw(rng))
    exchanged, cuts = exchange_future(tokens, model.config.vocabulary, rng)
    before = _losses(functions, TrainState(parameters, optimizer_state), tokens)
    after = _losses(functions, TrainState(parameters, optimizer_state), exchanged)
    # The loss at index i reads tokens up to i and predicts token i + 1, at the latest the twin at the cut.
    past = np.arange(model.config.length)[None, :] < cuts
    if not np.all(np.isfinite(before) & np.isfinite(after)):  # first: one infinity would make any limit infinite
        raise FiniteFault("with random parameters the loss is not finite")
    moved = np.where(past, np.abs(after - before), 0.0)
    if moved.max() > rounding(model.config) * max(1.0, float(np.abs(before).max())):
        raise CausalityFault(f"it sees the future: a past loss moved by {moved.max():.2g} nats with later tokens")


def exchange_future(tokens: np.ndarray, vocabulary: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Resample the future of every sequence, each from a cut of its own on; the token at the cut becomes its twin.

    Args:
        tokens: `[batch, length + 1]`.
        vocabulary: token ids.
        rng: source of futures.

    Returns:
        The exchanged tokens, and the cuts `[batch, 1]`: positions of tokens, spread over the sequence.
    """
    batch, length = tokens.shape[0], tokens.shape[1] - 1
    cuts = np.linspace(1, length - 1, batch + 2)[1:-1, None].astype(int)
    places = np.arange(length + 1)[None, :]
    later = rng.permutation(tokens.ravel()).reshape(tokens.shape)
    exchanged = np.where(places > cuts, later, np.where(places == cuts, _twins(tokens, vocabulary), tokens))
    return exchanged, cuts


def rounding(config: ModelConfig) -> float:
    """Largest change of a loss, relative to the largest loss (at least 1 nat), that rounding explains."""
    return TOLERANCE if config.precision == "float32" else BFLOAT16_TOLERANCE


def twin_parameters(parameters: Any) -> Any:
    """The parameters on the host, so that ids 2k and 2k + 1 get the same logit everywhere, but are not read alike."""
    embedding = np.array(parameters["embedding"])
    half = embedding.shape[1] // 2
    pairs = len(embedding) // 2
    embedding[1 : 2 * pairs : 2, :half] = embedding[0 : 2 * pairs : 2, :half]
    shown = np.arange(embedding.shape[1]) < half
    return {
        **parameters,
        "embedding": embedding,
        "final_norm": {
            key: np.where(shown, array, 0).astype(array.dtype) for key, array in parameters["final_norm"].items()
        },
    }


def _twins(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """The other id of each pair; an odd vocabulary's last id has none and stays."""
    twins = tokens ^ 1
    return np.where(twins < vocabulary, twins, tokens)


def _losses(functions: StepFunctions, state: TrainState, tokens: np.ndarray) -> np.ndarray:
    _, result = functions.step(jax.tree.map(np.array, state), tokens)  # copies: the step consumes its state
    return np.asarray(result.token_losses)
