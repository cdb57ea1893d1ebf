"""Cheap tests of a *trained* model, with the training step that is compiled anyway.

A probe before training misses what training opens: a gate that starts shut, a finite mask that weights learn to
outgrow. So every candidate that trained its full budget is probed again before its loss counts:

1. No example depends on another example of the batch.
2. Causal: the probe of `probe`, on the parameters that are evaluated.

Where a loss is too good to be true, the same is repeated on text the model has not seen.
"""

from __future__ import annotations

import numpy as np

from ..models.config import ModelConfig
from .probe import CausalityFault, ProbeFault, largest_move, rounding, witnesses
from .steps import StepFunctions, TrainState

__all__ = ["BatchFault", "recheck"]

LOSS = "once trained, the loss on some text"


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
        The largest change of a logit that should not have moved.

    Raises:
        BatchFault: an example moved with another example.
        CausalityFault: something of the past moved.
        FiniteFault: a loss is not finite.
    """
    trained = TrainState(state.evaluated, state.optimizer)
    among_strangers = _move_among_strangers(functions, config, trained, tokens, rng)
    moved, limit = largest_move(functions, config, trained, tokens, rng, LOSS)
    if moved > limit:
        raise CausalityFault(f"it sees the future once trained: a past logit moved by {moved:.2g} with later tokens")
    return max(moved, among_strangers)


def _move_among_strangers(
    functions: StepFunctions, config: ModelConfig, state: TrainState, tokens: np.ndarray, rng: np.random.Generator
) -> float:
    """How far every other example moves when those between are exchanged for others."""
    if len(tokens) < 2:
        return 0.0
    kept = np.arange(len(tokens)) % 2 == 0
    others = (tokens + rng.integers(1, config.vocabulary, tokens.shape)) % config.vocabulary
    mixed = np.where(kept[:, None], tokens, others).astype(tokens.dtype)
    before = witnesses(functions, state, tokens, LOSS)
    moved = float(np.abs(witnesses(functions, state, mixed, LOSS) - before)[kept].max())
    if moved > rounding(config) * max(1.0, float(np.abs(before).max())):
        raise BatchFault(f"an example's logit moved by {moved:.2g} with the other examples of its batch")
    return moved
