"""Cheap tests of the real language model before its budget starts, with the training step that is compiled anyway.

1. Finite: loss and gradients of one small batch.
2. Causal: with random parameters, exchanging the tokens from a position on leaves what the model computes before it as
   it was; and so for every position of the sequence.

Losses would not do for that: a token is the target of the position before it, so its exchange moves that loss in honest
programs, too, and hides the greatest cheat, reading the very token to predict. So the step also reports witnesses, the
logits of a few fixed tokens at every position, which depend on no target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ...models.config import ModelConfig
from ...models.language_model import LanguageModel
from .train_step import StepFunctions, StepResult, TrainState

__all__ = [
    "BatchFault",
    "CausalityFault",
    "FiniteFault",
    "ProbeFault",
    "largest_move",
    "probe_causality",
    "probe_finite",
    "probe_trained_model",
    "rounding",
]

TOLERANCE = 2e-6
"""Largest change of a witness of the past, relative to the largest witness (at least 1), that float32 rounding
explains; bfloat16 gets BFLOAT16_TOLERANCE. On CPU honest programs move by exactly 0 in both."""

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
    """Exchange the future of random sequences from every position on, and compare what was computed before it.

    Args:
        functions: with the training step compiled.
        model: draws the random parameters.
        optimizer_state: any, of the right shapes; it is copied.
        tokens: `[batch, length + 1]`.
        rng: source of parameters and futures.

    Raises:
        CausalityFault: something of the past moved.
        FiniteFault: a loss is not finite.
    """
    state = TrainState(model.draw(rng), optimizer_state)
    moved, limit = largest_move(functions, model.config, state, tokens, rng, "with random parameters the loss")
    if moved > limit:
        raise CausalityFault(f"it sees the future: a past logit moved by {moved:.2g} with later tokens")


def largest_move(
    functions: StepFunctions,
    config: ModelConfig,
    state: TrainState,
    tokens: np.ndarray,
    rng: np.random.Generator,
    what: str,
) -> tuple[float, float]:
    """How far witnesses of the past move when the future is exchanged, and the most that rounding explains.

    Args:
        functions: with the training step compiled.
        config: of the model.
        state: is copied.
        tokens: `[batch, length + 1]`.
        rng: source of futures.
        what: is not finite, where the loss is not.

    Raises:
        FiniteFault: a loss is not finite.
    """
    before = probe_logits(functions, state, tokens, what)
    moved = 0.0
    for exchanged, cuts in _futures(tokens, config.vocabulary, rng):
        past = np.arange(config.length)[None, :] < cuts  # index i reads tokens up to i
        change = np.abs(probe_logits(functions, state, exchanged, what) - before).max(axis=-1)
        moved = max(moved, float(np.where(past, change, 0.0).max()))
    return moved, rounding(config) * max(1.0, float(np.abs(before).max()))


def probe_logits(functions: StepFunctions, state: TrainState, tokens: np.ndarray, what: str) -> np.ndarray:
    """The witnesses [batch, length, few] of a step from a copy of the state.

    Raises:
        FiniteFault: a loss is not finite.
    """
    result: StepResult = functions.step(jax.tree.map(np.array, state), tokens)[1]  # copies: it consumes its state
    found = np.asarray(result.probe_logits, np.float32)
    if not (np.all(np.isfinite(np.asarray(result.token_losses))) and np.all(np.isfinite(found))):
        raise FiniteFault(f"{what} is not finite")
    return found


def rounding(config: ModelConfig) -> float:
    """Largest change of a witness, relative to the largest (at least 1), that rounding explains."""
    return TOLERANCE if config.precision == "float32" else BFLOAT16_TOLERANCE


def _futures(tokens: np.ndarray, vocabulary: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches with the future of each sequence resampled from its cut on, and the cuts [batch, 1]; all cuts once."""
    batch, length = tokens.shape[0], tokens.shape[1] - 1
    positions = rng.permutation(np.arange(1, length))
    positions = np.resize(positions, batch * max(1, -(-len(positions) // batch))) if len(positions) else positions
    places = np.arange(length + 1)[None, :]
    for start in range(0, len(positions), batch):
        cuts = positions[start : start + batch, None]
        other = (tokens + rng.integers(1, vocabulary, tokens.shape)) % vocabulary  # never the same token
        yield np.where(places >= cuts, other, tokens).astype(tokens.dtype), cuts


LOSS = "once trained, the loss on some text"


class BatchFault(ProbeFault):
    """A prediction depends on another example of the batch."""

    why = "batch"


def probe_trained_model(
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
    before = probe_logits(functions, state, tokens, LOSS)
    moved = float(np.abs(probe_logits(functions, state, mixed, LOSS) - before)[kept].max())
    if moved > rounding(config) * max(1.0, float(np.abs(before).max())):
        raise BatchFault(f"an example's logit moved by {moved:.2g} with the other examples of its batch")
    return moved
