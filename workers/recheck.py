"""Cheap tests of a *trained* model, with the training step that is compiled anyway.

A probe before training misses what training opens: a gate that starts shut, a finite mask that weights learn to
outgrow. So every candidate that trained its full budget is probed again before its loss counts:

1. Causal, as it is evaluated: exchanging the tokens from a position on leaves earlier losses as they were.
2. Causal, one token nearer: the same with twin tokens (see `probe`), which also shows a model that reads the very token
   it predicts. Twins change the embedding and the final norm; the blocks stay as trained.
3. No example's losses depend on another example of the batch.

Where a loss is too good to be true, the same is repeated on text the model has not seen.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..models.config import ModelConfig
from .probe import CausalityFault, FiniteFault, ProbeFault, exchange_future, rounding, twin_parameters
from .steps import StepFunctions, TrainState

__all__ = ["BatchFault", "recheck"]


class BatchFault(ProbeFault):
    """A prediction depends on another example of the batch."""

    why = "batch"


def recheck(
    functions: StepFunctions, config: ModelConfig, state: TrainState, tokens: np.ndarray, rng: np.random.Generator
) -> float:
    """Probe a trained model.

    Args:
        functions: with the training step compiled.
        config: of the model.
        state: after training; it is copied.
        tokens: `[batch, length + 1]`.
        rng: source of futures and of strangers in the batch.

    Returns:
        The largest change of a loss that should not have moved, in nats per token.

    Raises:
        CausalityFault: a past loss moved.
        BatchFault: an example's loss moved with another example.
        FiniteFault: a loss is not finite.
    """
    losses = _Losses(functions, config, state)
    exchanged, cuts = exchange_future(tokens, config.vocabulary, rng)
    places = np.arange(config.length)[None, :]
    before = losses(state.evaluated, tokens)
    # Index i reads tokens up to i and predicts token i + 1: below cut - 1 neither is exchanged.
    moved = losses.moved(state.evaluated, before, exchanged, places < cuts - 1)
    _refuse(moved, losses, before, f"it sees the future once trained: a past loss moved by {moved:.2g} nats")
    twins = twin_parameters(state.evaluated)
    twin_losses = losses(twins, tokens)
    twin_moved = losses.moved(twins, twin_losses, exchanged, places < cuts)
    _refuse(
        twin_moved,
        losses,
        twin_losses,
        f"it sees the token it predicts once trained: a loss moved by {twin_moved:.2g} nats",
    )
    largest = max(moved, twin_moved)
    if len(tokens) > 1:
        keep = np.arange(len(tokens)) % 2 == 0
        strangers = np.where(keep[:, None], tokens, rng.permutation(tokens.ravel()).reshape(tokens.shape))
        batch_moved = losses.moved(state.evaluated, before, strangers, keep[:, None])
        if batch_moved > losses.limit(before):
            message = f"an example's loss moved by {batch_moved:.2g} nats with the other examples of its batch"
            raise BatchFault(message)
        largest = max(largest, batch_moved)
    return largest


class _Losses:
    """Token losses at given parameters, by the training step."""

    def __init__(self, functions: StepFunctions, config: ModelConfig, state: TrainState):
        self.functions, self.config = functions, config
        self.optimizer = jax.tree.map(np.array, state.optimizer)

    def __call__(self, parameters: Any, tokens: np.ndarray) -> np.ndarray:
        # Copies: the step consumes its state.
        state = TrainState(jax.tree.map(np.array, parameters), jax.tree.map(np.array, self.optimizer))
        losses = np.asarray(self.functions.step(state, tokens)[1].token_losses)
        if not np.all(np.isfinite(losses)):
            raise FiniteFault("once trained, its loss is not finite on some text")
        return losses

    def moved(self, parameters: Any, before: np.ndarray, tokens: np.ndarray, unmoved: np.ndarray) -> float:
        """How far the losses moved where they must not."""
        return float(np.where(unmoved, np.abs(self(parameters, tokens) - before), 0.0).max())

    def limit(self, losses: np.ndarray) -> float:
        """The most that rounding explains."""
        return rounding(self.config) * max(1.0, float(np.abs(losses).max()))


def _refuse(moved: float, losses: _Losses, before: np.ndarray, message: str) -> None:
    if moved > losses.limit(before):
        raise CausalityFault(message)
