"""Cheap tests of the real language model before its budget starts, with the training step that is compiled anyway.

1. Finite: loss and gradients of one small batch.
2. Causal: with random parameters, resampling the tokens from a position on leaves the losses of earlier
   predictions as they were.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..models.language_model import LanguageModel
from .steps import StepFunctions, TrainState

__all__ = ["CausalityFault", "FiniteFault", "ProbeFault", "probe_causality", "probe_finite"]

TOLERANCE = 1e-4
"""Largest change of a past loss, in nats, that float32 rounding explains; bfloat16 gets BFLOAT16_TOLERANCE."""

BFLOAT16_TOLERANCE = 5e-2


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
    """Resample the future of every sequence, each from a position of its own, and compare past losses.

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
    parameters = model.draw(rng)
    batch, length = tokens.shape[0], tokens.shape[1] - 1
    cuts = np.linspace(1, length - 1, batch).astype(int)
    future = np.arange(length + 1)[None, :] >= cuts[:, None]
    resampled = np.where(future, rng.permutation(tokens.ravel()).reshape(tokens.shape), tokens)
    before = _losses(functions, TrainState(parameters, optimizer_state), tokens)
    after = _losses(functions, TrainState(parameters, optimizer_state), resampled)
    # The loss at index i predicts token i + 1: it is in the past of the cut where i + 1 < cut.
    past = np.arange(length)[None, :] + 1 < cuts[:, None]
    moved = np.where(past, np.abs(after - before), 0.0)
    if not np.all(np.isfinite(moved)):
        raise FiniteFault("with random parameters the loss is not finite")
    limit = TOLERANCE if model.config.precision == "float32" else BFLOAT16_TOLERANCE
    if moved.max() > limit * max(1.0, float(np.abs(before).max())):
        raise CausalityFault(f"it sees the future: a past loss moved by {moved.max():.2g} nats with later tokens")


def _losses(functions: StepFunctions, state: TrainState, tokens: np.ndarray) -> np.ndarray:
    _, result = functions.step(jax.tree.map(np.array, state), tokens)  # copies: the step consumes its state
    return np.asarray(result.token_losses)
