"""Probes of a trial: tests of the actual language model that reuse its compiled training step.

Before training, on one batch:

1. Finite: the loss and the gradients are finite.
2. Causal: with random parameters, replacing the tokens from a position on does not change the logits before it. All
   positions are tested.

After training, with the trained parameters: the same test of causality, and a test that no example depends on the other
examples of its batch.

Losses cannot show a leak. A token is the target at the position before it, so replacing it changes that loss even
in causal programs. This hides the worst leak: a program that reads the token it has to predict. Therefore the step also
reports probe logits, the logits of a few fixed tokens at every position, which depend on no target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import jax
import numpy as np

from ...models.config import ModelConfig
from ...models.training_batch import TrainingBatch
from .steps.batch_model import BatchModel
from .steps.flat_model import TrainableModel
from .steps.train_state import StepResult, TrainState

__all__ = [
    "SUSPICIOUS_BATCHES",
    "BatchFault",
    "CausalityFault",
    "FiniteFault",
    "ProbeFault",
    "Steps",
    "StepsOnTokens",
    "probe_causality",
    "probe_finite",
    "probe_trained_batch",
    "probe_trained_model",
    "quarantine_note",
]

SUSPICIOUS_BATCHES = 8
"""Batches of unseen text on which a suspiciously good model is probed."""

TOLERANCES = {"float32": 2e-6, "bfloat16": 2e-3}
"""Largest change of a probe logit that rounding explains, relative to the largest probe logit (at least 1).

On a CPU, the probe logits of causal programs do not change at all in either precision.
"""


BATCH_CUTS = 4
"""Number of positions per sequence from which tokens are replaced, in probes of a batch that is not plain text."""


class Steps(Protocol):
    """Training steps for probes."""

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, StepResult]:
        """Take a step, which consumes `state`."""
        ...


class StepsOnTokens:
    """Steps on token windows, by `functions` that were compiled for batches as `make_batch` returns them."""

    def __init__(self, functions: Steps, make_batch: Callable[[np.ndarray], Any]):
        self._functions = functions
        self._make_batch = make_batch

    def step(self, state: TrainState, batch: np.ndarray) -> tuple[TrainState, StepResult]:
        """Take a step on token windows [batch, length + 1]."""
        return self._functions.step(state, self._make_batch(batch))


class ProbeFault(Exception):
    """A candidate failed a probe; `reason` is the reason of its rejection."""

    reason = "probe"


class FiniteFault(ProbeFault):
    """A loss or a gradient is not finite."""

    reason = "finiteness"


class CausalityFault(ProbeFault):
    """A prediction depends on later tokens."""

    reason = "causality"


class BatchFault(ProbeFault):
    """A prediction depends on another example of the batch."""

    reason = "batch"


def probe_finite(functions: Steps, state: TrainState, tokens: Any) -> TrainState:
    """Take one step from `state`, which is consumed, and return the state after it.

    Raises:
        FiniteFault: the loss or the gradient norm is not finite.
    """
    state, result = functions.step(state, tokens)
    if not np.all(np.isfinite(np.asarray(result.token_losses))):
        raise FiniteFault("the loss of the first batch is not finite")
    if not np.isfinite(np.asarray(result.gradient_norm)):
        raise FiniteFault("the gradient of the first batch is not finite")
    return state


def probe_causality(
    functions: Steps,
    model: TrainableModel | BatchModel,
    optimizer_state: Any,
    tokens: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Check that an untrained model with random parameters does not see later tokens.

    Args:
        functions: step functions with the training step compiled.
        model: language model, which draws the random parameters.
        optimizer_state: any state of the right shapes; it is copied.
        tokens: `[batch, length + 1]`.
        rng: generator of parameters and replacement tokens.

    Raises:
        CausalityFault: a logit changed with later tokens.
        FiniteFault: a loss is not finite.
    """
    state = TrainState(model.draw(rng), optimizer_state)
    probe = _Probe(functions, model.config, state, tokens, "with random parameters the loss is not finite")
    change = probe.change_with_later_tokens(rng)
    if change > probe.limit:
        raise CausalityFault(f"it sees the future: a logit changed by {change:.2g} when later tokens were replaced")


def probe_trained_model(
    functions: Steps, config: ModelConfig, state: TrainState, tokens: np.ndarray, rng: np.random.Generator
) -> float:
    """Check that a trained model sees neither later tokens nor other examples of the batch.

    Args:
        functions: step functions with the training step compiled.
        config: shape of the model.
        state: state after training; it is copied.
        tokens: `[batch, length + 1]`.
        rng: generator of replacement tokens.

    Returns:
        The largest change of a logit that should not have changed.

    Raises:
        BatchFault: a logit changed with another example.
        CausalityFault: a logit changed with later tokens.
        FiniteFault: a loss is not finite.
    """
    trained = TrainState(state.evaluated, state.optimizer)
    probe = _Probe(functions, config, trained, tokens, "once trained, the loss of a batch is not finite")
    with_examples = probe.change_with_other_examples(rng)
    if with_examples > probe.limit:
        raise BatchFault(f"a logit changed by {with_examples:.2g} when other examples of the batch were replaced")
    with_future = probe.change_with_later_tokens(rng)
    if with_future > probe.limit:
        raise CausalityFault(
            f"it sees the future once trained: a logit changed by {with_future:.2g} when later tokens were replaced"
        )
    return max(with_future, with_examples)


def probe_trained_batch(
    functions: Steps, config: ModelConfig, state: TrainState, batch: TrainingBatch, rng: np.random.Generator
) -> float:
    """Check that a trained model sees no later tokens except in its prefix, and no other text of its sequence.

    Args:
        functions: step functions with the training step compiled.
        config: shape of the model.
        state: state after training; it is copied.
        batch: batch of the objective.
        rng: generator of replacement tokens.

    Returns:
        The largest change of a logit that should not have changed.

    Raises:
        BatchFault: a logit changed with another text of the sequence.
        CausalityFault: a logit changed with later tokens outside its prefix.
        FiniteFault: a loss is not finite.
    """
    trained = TrainState(state.evaluated, state.optimizer)
    tokens = np.asarray(batch.tokens)
    steps = StepsOnTokens(functions, lambda other: replace(batch, tokens=other))
    probe = _Probe(steps, config, trained, tokens, "once trained, the loss of a batch is not finite")
    texts = batch.segment_ids
    with_texts = 0.0 if texts is None else probe.change_with_other_texts(np.asarray(texts), rng)
    if with_texts > probe.limit:
        raise BatchFault(f"a logit changed by {with_texts:.2g} when other texts of the sequence were replaced")
    prefix = np.zeros(tokens.shape, bool) if batch.prefix is None else np.asarray(batch.prefix)
    with_targets = probe.change_with_targets(prefix, rng)
    if with_targets > probe.limit:
        raise CausalityFault(f"it sees its targets: a logit changed by {with_targets:.2g} when they were replaced")
    return max(with_texts, with_targets)


def quarantine_note(loss_nats: float, bound_nats: float, moved_logits: float) -> str:
    """Return the sentence about a model whose loss is suspiciously low, but in which the probes found no fault."""
    return (
        f"the loss {loss_nats:.4f} is below the plausible {bound_nats:.4f}, but the probes cleared the model: on "
        f"{SUSPICIOUS_BATCHES} batches of unseen text, later tokens and other examples changed no logit by more than "
        f"{moved_logits:.1g}"
    )


class _Probe:
    """The probe logits of one training state on one batch, and how much they change if tokens are replaced.

    Attributes:
        limit: largest change that rounding explains.
    """

    def __init__(self, functions: Steps, config: ModelConfig, state: TrainState, tokens: np.ndarray, not_finite: str):
        self._functions = functions
        self._config = config
        self._state = state
        self._tokens = tokens
        self._not_finite = not_finite
        self._logits = self._probe_logits(tokens)
        self.limit = TOLERANCES[config.precision] * max(1.0, float(np.abs(self._logits).max()))

    def change_with_later_tokens(self, rng: np.random.Generator) -> float:
        """Return the largest change of a logit when the tokens after its position are replaced."""
        largest = 0.0
        for tokens, cuts in self._replaced_futures(rng):
            past = np.arange(self._config.length)[None, :] < cuts  # the logits at index i read tokens up to i
            change = np.abs(self._probe_logits(tokens) - self._logits).max(axis=-1)
            largest = max(largest, float(np.where(past, change, 0.0).max()))
        return largest

    def change_with_other_examples(self, rng: np.random.Generator) -> float:
        """Return the largest change of a logit of the even examples when the odd ones are replaced."""
        if len(self._tokens) < 2:
            return 0.0
        even = np.arange(len(self._tokens)) % 2 == 0
        tokens = np.where(even[:, None], self._tokens, self._other_tokens(rng)).astype(self._tokens.dtype)
        return float(np.abs(self._probe_logits(tokens) - self._logits)[even].max())

    def change_with_other_texts(self, segment_ids: np.ndarray, rng: np.random.Generator) -> float:
        """Return the largest change of a logit of a text when the texts next to it in its sequence are replaced."""
        begins = np.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        odd = np.cumsum(begins, axis=1) % 2 == 1
        largest = 0.0
        for kept in (~odd, odd):
            tokens = np.where(kept, self._tokens, self._other_tokens(rng)).astype(self._tokens.dtype)
            change = np.abs(self._probe_logits(tokens) - self._logits).max(axis=-1)
            largest = max(largest, float(np.where(kept[:, :-1], change, 0.0).max()))
        return largest

    def change_with_targets(self, prefix: np.ndarray, rng: np.random.Generator) -> float:
        """Return the largest change of a logit when tokens after its position and outside all prefixes are replaced."""
        largest, places = 0.0, np.arange(self._tokens.shape[1])[None, :]
        for _ in range(BATCH_CUTS):  # nothing is replaced in a sequence that is all prefix
            draws = np.where(prefix | (places == 0), -1.0, rng.random(prefix.shape))
            cuts = np.where(draws.max(axis=1) < 0, prefix.shape[1], draws.argmax(axis=1))[:, None]
            tokens = np.where(places >= cuts, self._other_tokens(rng), self._tokens).astype(self._tokens.dtype)
            change = np.abs(self._probe_logits(tokens) - self._logits).max(axis=-1)
            largest = max(largest, float(np.where(places[:, :-1] < cuts, change, 0.0).max()))
        return largest

    def _probe_logits(self, tokens: np.ndarray) -> np.ndarray:
        """Return the probe logits [batch, length, few] of a step from a copy of the state, which a step consumes."""
        result = self._functions.step(jax.tree.map(np.array, self._state), tokens)[1]
        logits = np.asarray(result.probe_logits, np.float32)
        if not (np.all(np.isfinite(np.asarray(result.token_losses))) and np.all(np.isfinite(logits))):
            raise FiniteFault(self._not_finite)
        return logits

    def _replaced_futures(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches with each sequence replaced from a cut on, and the cuts [batch, 1]; every cut occurs."""
        batch, length = self._tokens.shape[0], self._tokens.shape[1] - 1
        cuts = rng.permutation(np.arange(1, length))
        cuts = np.resize(cuts, batch * max(1, -(-len(cuts) // batch))) if len(cuts) else cuts
        positions = np.arange(length + 1)[None, :]
        for start in range(0, len(cuts), batch):
            chosen = cuts[start : start + batch, None]
            tokens = np.where(positions >= chosen, self._other_tokens(rng), self._tokens)
            yield tokens.astype(self._tokens.dtype), chosen

    def _other_tokens(self, rng: np.random.Generator) -> np.ndarray:
        """Return random tokens, each different from the token that it replaces."""
        vocabulary = self._config.vocabulary
        return (self._tokens + rng.integers(1, vocabulary, self._tokens.shape)) % vocabulary
